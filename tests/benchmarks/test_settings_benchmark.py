"""The benchmark of settings: who sees what, what is compared, and that all of it runs."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from PIL import Image

from adaptune.data.loading import Loading
from adaptune.data.readers.folder import read_folder
from adaptune.data.readers.scenes import SceneReader
from adaptune.methods import METHODS
from adaptune.report.terminal import Terminal
from benchmarks.gain import gain
from benchmarks.pages import MEASURED
from benchmarks.settings import ROOT, Bench, run
from benchmarks.sources import earth
from benchmarks.sources.pairs import pair

PROTOCOL = """
about = "two tiny domains"
seeds = [0, 1]
classes = ["dots", "rings", "stripes"]
known = 2
pairs = [["photo", "sketch"], ["sketch", "photo"]]
setting = {backbone = "test_efficientnet", weights = "none", image_size = 32, select = "last"}
plan = {epochs = 1}
loading = {batch_size = 8}

[parts.supervised]
against = "supervised/source-only"
variants.source-only = {method = "ft"}
variants."ft, slowly" = {method = "ft", lr = 0.001, seeds = [1]}

[parts.source-free]
adapts = true
start = "supervised/source-only"
against = "supervised/source-only"
versus = [["shot", "adabn"]]
variants.adabn = {method = "adabn"}
variants.shot = {method = "shot"}

[parts.open]
open = true
setting = {open_set = true, unknown_above = 0.55}
against = "open/source-only"
variants.source-only = {method = "ft"}

[parts.open-adapted]
open = true
setting = {open_set = true, unknown_above = 0.55}
adapts = true
start = "open/source-only"
against = "open/source-only"
measure = "h"
variants.shot = {method = "shot"}

[streams.target]
start = "supervised/source-only"
batches = [4, 8]
against = ["source-only"]
variants.source-only = {method = "alpha-bn", alpha = 1.0}
variants.tent = {method = "tent"}
"""
PARTS = ["supervised", "source-free", "open", "open-adapted"]
WHOLE, *OTHERS = (
    tomllib.loads((ROOT / "protocols" / f"{name}.toml").read_text())
    for name in ("settings", *sorted(MEASURED.keys() - {"settings"}))
)
NOT_MEASURED = {"dafos", "ditfend", "trans-lora", "zscl", "tpt"}
"""Methods that stand in no protocol yet; their pages say that nothing was measured."""


@pytest.fixture(scope="module")
def vendors(two_domains):
    return {name: read_folder(two_domains / name, name) for name in ("photo", "sketch")}


@pytest.fixture(scope="module")
def found(vendors, tmp_path_factory):
    bench = Bench(tomllib.loads(PROTOCOL), vendors, tmp_path_factory.mktemp("work"))
    with Terminal(quiet=True) as terminal:
        return run(bench, PARTS, 1, terminal, streamed=True)


def test_every_variant_runs_on_every_pair_with_every_seed(found):
    assert not found["failures"]
    rows = {(row["part"], row["method"], row["pair"], row["seed"]) for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 6 * 2 * 2 - 2
    slow = {row["seed"] for row in found["rows"] if row["method"] == "ft, slowly"}
    assert slow == {1}
    assert {row["label_free"].keys() >= {"snd"} for row in found["rows"]} == {True}


def test_gains_are_those_of_the_rows(found):
    [shot] = [g for g in found["gains"] if (g["variant"], g["against"]) == ("shot", "adabn")]
    assert (shot["count"], shot["seeds"]) == (2, 2)
    for one in shot["pairs"]:
        for name, said in (("shot", one["value"]), ("adabn", one["reference"])):
            own = [
                row["accuracy"]
                for row in found["rows"]
                if (row["part"], row["method"], row["pair"]) == ("source-free", name, one["pair"])
            ]
            assert said == pytest.approx(sum(own) / 2)
    compared = {(g["variant"], g["against"]) for g in found["gains"] if g["measure"] == "h"}
    assert compared == {("shot", "source-only"), ("shot", "source-only, best threshold")}
    measures = {g["measure"] for g in found["gains"] if g["setting"] == "test-time"}
    assert measures == {f"accuracy, target, batches of {size}" for size in (4, 8)}


def test_a_variant_of_fewer_seeds_is_compared_on_these(found):
    [slow] = [one for one in found["gains"] if one["variant"] == "ft, slowly"]
    assert (slow["count"], slow["seeds"], slow["options"]) == (2, 1, {"lr": 0.001})
    reference = {
        row["pair"]: row["accuracy"]
        for row in found["rows"]
        if (row["part"], row["method"], row["seed"]) == ("supervised", "source-only", 1)
    }
    assert {one["pair"]: one["reference"] for one in slow["pairs"]} == reference


def test_a_part_with_teachers_names_their_runs_to_those_that_learn_from_them(vendors, tmp_path):
    protocol = tomllib.loads(PROTOCOL)
    protocol["parts"]["taught"] = {
        "start": "supervised/source-only",
        "labelled": True,
        "setting": {"image_size": 48},
        "teachers": ["other/one", "other/two"],
        "variants": {"ft": {"method": "ft"}, "kl-dp": {"method": "kl-dp", "lr": 0.01}},
    }
    bench = Bench(protocol, vendors, tmp_path)
    plain, taught, *_ = bench.cells("taught")
    place = "photo-to-sketch"
    wanted = [str(tmp_path / "other" / place / f"{name}-0") for name in ("one", "two")]
    assert (list(taught.setting.teachers), plain.setting.teachers) == (wanted, ())
    assert taught.setting.start == str(tmp_path / "supervised" / place / "source-only-0")
    assert (taught.setting.image_size, taught.options["lr"]) == (48, 0.01)
    assert len(taught.data.augmented)
    assert "teachers:" in taught.config
    assert "teachers:" not in plain.config


def test_a_variant_may_have_a_plan_of_its_own_whose_optimiser_says_its_usual_rates(
    vendors, tmp_path
):
    protocol = tomllib.loads(PROTOCOL)
    protocol["parts"]["supervised"]["variants"] = {
        "ft": {"method": "ft"},
        "other": {"method": "ft", "plan": {"optimizer": "adamw", "clip": 1.0}},
    }
    plain, other, *_ = Bench(protocol, vendors, tmp_path).cells("supervised")
    assert (plain.plan.optimizer, plain.options["lr"]) == ("sgd", 0.03)
    assert (other.plan.optimizer, other.plan.clip, other.options["lr"]) == ("adamw", 1.0, 0.0003)
    assert other.plan.epochs == plain.plan.epochs
    assert "optimizer: adamw" in other.config


def test_a_part_may_learn_from_one_of_the_sources_and_a_stream_meets_several(vendors, tmp_path):
    protocol = tomllib.loads(PROTOCOL)
    several = [["photo", "other", "sketch"]]
    protocol["parts"]["second"] = {
        "only": 1,
        "pairs": several,
        "variants": {"expert": {"method": "ft"}},
    }
    protocol["streams"] = {
        "both": protocol["streams"]["target"] | {"start": "second/expert"},
    }
    seen = []

    def looked(_, sources, target, **more):
        seen.append((*sources, target))
        return pair(vendors, ["photo"], target, **more)

    bench = Bench(protocol, vendors, tmp_path, looked)
    first, _ = bench.cells("second")
    assert (first.domain, set(seen)) == ("photo and other to sketch", {("other", "sketch")})
    assert "only: 1" in first.config
    assert "only" not in next(bench.cells("supervised")).config
    met, *_ = bench.meetings("both")
    assert (met.place, met.run) == (first.domain, first.folder)


def test_a_few_images_of_the_target_are_labelled_and_none_of_them_is_tested(vendors):
    known = {"classes": ["dots", "rings"], "loading": Loading(), "adapts": True}
    few, other = (pair(vendors, ["photo"], "sketch", few=2, seed=seed, **known) for seed in (0, 1))
    all_of = pair(vendors, ["photo"], "sketch", **known)
    ours = few.sets["train"].paths
    assert len(ours) == 4
    assert {path.parts[-3] for path in ours} == {"sketch"}
    assert ours != other.sets["train"].paths
    assert few.target.rows.paths == all_of.target.rows.paths
    assert not {path.stem for path in ours} & {path.stem for path in few.ood["sketch"].paths}


def test_a_protocol_that_names_no_classes_has_those_that_all_vendors_share(vendors, tmp_path):
    named = tomllib.loads(PROTOCOL)
    everything = {key: value for key, value in named.items() if key != "classes"}
    part = everything["parts"]["supervised"]
    fewer = vendors | {"few": replace(vendors["photo"], classes=("dots", "rings"))}
    for known, wanted in ((vendors, ("dots", "rings", "stripes")), (fewer, ("dots", "rings"))):
        bench = Bench(everything, known, tmp_path)
        assert set(bench.data(part, ["photo"], "sketch").classes) == set(wanted)


def test_open_sets_have_further_classes_and_every_threshold_is_tried(found):
    opened = [row for row in found["rows"] if row["part"].startswith("open")]
    assert all({"known", "unknown", "h"} <= row.keys() for row in opened)
    told = found["thresholds"]["open-adapted"]
    assert len(told["rows"]) == 4
    own = {(row["pair"], row["seed"]): row["h"] for row in opened if row["part"] == "open"}
    for row in told["rows"]:
        assert row["h"]["0.55"] == pytest.approx(own[row["pair"], row["seed"]])


def test_no_subject_is_on_both_sides_and_what_starts_from_a_run_has_no_source(vendors):
    def opened(**more):
        classes = ["dots", "rings"]
        return pair(vendors, ["photo"], "sketch", classes=classes, loading=Loading(), **more)

    both = opened(adapts=True, others=["stripes"])
    ours = {path.stem for path in both.sets["train"].paths + both.sets["val"].paths}
    theirs = {path.stem for path in both.target.rows.paths}
    assert theirs
    assert not ours & theirs
    assert {path.stem for path in both.ood["sketch"].paths} == theirs
    assert any(stem.startswith("stripes") for stem in theirs)
    alone = opened(adapts=True, begun=True)
    assert set(alone.sets) == {"test"}
    assert not len(alone.augmented)


def test_gains_are_means_over_the_pairs_that_both_have():
    own, theirs = {"a": 3.0, "b": 4.0, "c": 9.0}, {"a": 1.0, "b": 2.0}
    said = {"method": "ft", "lr": 0.1}
    told = gain(own, theirs, setting="s", variant="v", said=said, against="w", measure="m", seeds=1)
    assert (told["mean"], told["low"], told["high"], told["count"]) == (2.0, 2.0, 2.0, 2)
    assert (told["base"], told["options"]) == ("ft", {"lr": 0.1})


def test_every_method_of_a_new_setting_is_in_a_protocol():
    measured: set[str] = set()
    for one in (WHOLE, *OTHERS):
        parts = [*one["parts"].values(), *one.get("streams", {}).values()]
        measured |= {own["method"] for part in parts for own in part["variants"].values()}
        assert len({tuple(two) for two in one["pairs"]}) >= 3
    asked = {name for name, one in METHODS.items() if one.setting != "supervised"}
    assert asked - measured == NOT_MEASURED


def test_a_pair_of_maps_shares_no_tile_and_is_tested_on_all_that_is_adapted_to(tmp_path):
    folders = {}
    for name in ("photo", "relief"):
        for split, columns in (("train", "0"), ("val", "1"), ("test", "23")):
            for part, shade in (("images", 90), ("masks", 1)):
                folder = tmp_path / name / part / split
                folder.mkdir(parents=True)
                for column in columns:
                    Image.new("L", (8, 8), shade).save(folder / f"0{column}-00.png")
        folders[name] = SceneReader()(tmp_path / name, name)[0]

    def opened(*, adapts=False, **more):
        known = {"classes": earth.CLASSES, "loading": Loading(), "adapts": adapts}
        return earth.pair(folders, ["photo"], "relief", **known, **more)

    both = opened(adapts=True)
    assert [len(both.sets[split]) for split in ("train", "val", "test")] == [1, 1, 2]
    theirs = {path.stem for path in both.target.rows.paths}
    assert theirs == {"02-00", "03-00"} == {path.stem for path in both.ood["relief"].paths}
    assert not len(opened().target)
    assert set(opened(adapts=True, begun=True).sets) == {"test"}

    strip = {path.stem for path in opened().sets["val"].paths}
    few = opened(few=1, seed=3)
    assert few.parts["train"] == (1, 1)
    assert few.sets["train"].paths[1].parts[-4:-2] == ("relief", "images")
    assert {few.sets["train"].paths[1].stem} <= strip
    assert len(few.ood["relief"]) == 2
    alone = opened(few=1, begun=True)
    assert [path.stem for path in alone.sets["train"].paths] == ["01-00"]
    assert not alone.parts
    with pytest.raises(ValueError, match="1 tiles to draw 2"):
        opened(few=2)
