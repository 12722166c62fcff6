"""Protocols are run as they say, and pages show what the results hold."""

from __future__ import annotations

import json
import sys
import tomllib
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from adaptune.data.opening import open_domains
from benchmarks import table
from benchmarks.run import Bench, main, some

PROTOCOL = """
about = "two tiny domains"
source = "tiny"
seeds = [0, 1]

[setting]
backbone = "test_efficientnet"
weights = "none"
image_size = 32
crop = 1.0

[plan]
epochs = 1

[loading]
batch_size = 16

"""
TUNED = """
[variants.ft]
method = "ft"

[variants."ft, as it comes"]
method = "ft"
tuned = false
"""


@pytest.fixture
def protocol(tmp_path, photos, sketches, monkeypatch):
    """Write a protocol and run it; give its results."""
    folders = {"photo": photos, "sketch": sketches}

    def open_source(data: Path | None, work: Path) -> dict:
        return {
            name: partial(_opened, name, {n: f for n, f in folders.items() if n != name}, folder)
            for name, folder in folders.items()
        }

    module = ModuleType("benchmarks.sources.tiny")
    module.open_source = open_source
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def ran(text: str, more: str, *, seeds: str = "[0, 1]") -> dict:
        file = tmp_path / "small.toml"
        head = PROTOCOL.replace('source = "tiny"', 'source = "tiny"\n' + more)
        file.write_text(head.replace("[0, 1]", seeds) + text)
        main([str(file), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "results")])
        return json.loads((tmp_path / "results" / "small.json").read_text())

    return ran


def _opened(name, others, folder, loading):
    return open_domains(folder, others, loading=loading)


def test_every_variant_runs_on_every_domain_with_every_seed(protocol):
    found = protocol('[variants.a]\nmethod = "ft"\nlr = 0.01\n', "")
    rows = [(row["domain"], row["method"], row["seed"]) for row in found["rows"]]
    assert rows == [(d, "a", s) for d in ("photo", "sketch") for s in (0, 1)]
    assert {row["options"]["lr"] for row in found["rows"]} == {0.01}
    assert not found["failures"]
    assert set(found["selection"]["snd"]["cases"][0]) >= {"gap", "spearman", "oracle"}


def test_tuned_variants_take_what_their_search_chose_and_others_do_not(protocol):
    found = protocol(TUNED, 'tune = 3\ndomains = ["photo"]')
    chosen = found["tuned"]["photo"]["ft"]
    assert len(chosen["trials"]) == 3
    for row in found["rows"]:
        expected = 0.03 if row["method"] == "ft, as it comes" else chosen["values"]["lr"]
        assert row["options"]["lr"] == expected


def test_a_variant_with_a_plan_of_its_own_is_run_and_tuned_by_that(protocol, tmp_path):
    text = TUNED.replace(
        'ft, as it comes"]\nmethod = "ft"\ntuned = false',
        'ft, interpolated"]\nmethod = "ft"\nplan = {interpolate = 0.5, epochs = 2}\n'
        '[variants."ft, averaged"]\nmethod = "ft"\ntuned = "ft"\nplan = {average = "ema"}',
    )
    found = protocol(text, 'tune = 2\ndomains = ["photo"]', seeds="[0]")
    tuned = found["tuned"]["photo"]
    assert {name: max(t["epochs"] for t in one["trials"]) for name, one in tuned.items()} == {
        "ft": 1,
        "ft, interpolated": 2,
    }
    for row in found["rows"]:
        own = {"ft, averaged": "ft"}.get(row["method"], row["method"])
        assert row["options"]["lr"] == tuned[own]["values"]["lr"]
    for folder, said in (("ft-0", (None, 1)), ("ft,-interpolated-0", (0.5, 2))):
        config = yaml.safe_load(
            (tmp_path / "work/small/photo" / folder / "config.yaml").read_text()
        )
        assert (config.get("interpolate"), config["epochs"]) == said


def test_a_grid_is_tried_with_the_first_seed_and_its_best_runs_with_all(protocol, tmp_path):
    text = '[variants.a]\nmethod = "ft"\n[grids.a]\nlr = [0.1, 0.001]\n'
    found = protocol(text, 'domains = ["photo"]')
    tried = {
        value: json.loads((tmp_path / f"work/small/photo/a-{value}-0/results.json").read_text())
        for value in ("0.1", "0.001")
    }
    assert not (tmp_path / "work/small/photo/a-0.1-1").exists()
    best = max(tried, key=lambda value: tried[value]["val_accuracy"])
    assert found["grid"]["photo"]["a"]["lr"] == float(best)
    assert [row["options"]["lr"] for row in found["rows"]] == [float(best)] * 2


def test_rates_sweep_five_decades(protocol):
    words = 'rates = true\ndomains = ["photo"]'
    found = protocol('[variants.ft]\nmethod = "ft"\n', words, seeds="[0]")
    rates = sorted({row["options"]["lr"] for row in found["rows"]})
    assert len(rates) == 11
    assert rates[-1] / rates[0] == pytest.approx(1e5)
    assert found["rates"]["photo"]["ft"]["width"]["id_accuracy"] >= 0


def test_a_scan_of_few_images_measures_those_and_trains_on_all(photos):
    data = open_domains(photos, {})
    text = PROTOCOL + '[variants.a]\nmethod = "daft"\nscan = 5\n'
    bench = Bench(tomllib.loads(text), {"photo": data}, Path("work"))
    cell = bench.cell("photo", "a", "a", {}, 0)
    assert len(cell.data.sets["train"]) == 5
    assert len(cell.data.augmented) == len(data.augmented) > 5


def test_some_rows_keep_their_labels(photos):
    rows = open_domains(photos, {}).sets["train"]
    part = some(rows, 7, seed=3)
    labels = dict(zip(rows.paths, rows.labels, strict=True))
    assert [labels[path] for path in part.paths] == part.labels
    assert part.paths != rows.paths[:7]


def test_a_page_is_filled_with_what_the_results_say(tmp_path, monkeypatch):
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    selection = {"snd": {"spearman": 0.5, "gap": 1.25, "close": 3, "cases": [1, 2, 3, 4]}}
    file = tmp_path / "benchmarks" / "results" / "some-bag.json"
    file.write_text(json.dumps({"selection": selection}))
    monkeypatch.setattr(table, "ROOT", tmp_path)
    page = table.filled("a\n<!-- some-bag selection -->\nold\n<!-- /some-bag selection -->\nb")
    assert "| `snd` | +0.50 | 1.2 | 3 of 4 |" in page
    assert "old" not in page
    assert table.filled(page) == page
