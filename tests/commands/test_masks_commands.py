"""Segmentation from the command line: trained, gone on with, measured, predicted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import yaml
from PIL import Image
from scenes import NAMES, draw_scenes

from adaptune.commands import main
from adaptune.report.masks import palette
from adaptune.results.run import read_results
from adaptune.runtime.files import read_lines


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """A folder with ``city``, ``night`` and the names of their classes."""
    folder = tmp_path_factory.mktemp("places")
    draw_scenes(folder / "city", 40)
    draw_scenes(folder / "night", 8, seed=9, shift=40, name="n")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return folder


@pytest.fixture(scope="module")
def words(places) -> list[str]:
    """What a quick run of masks is given, all but method and ``--out``."""
    network = ["--backbone=test_resnet", "--weights=none", "--image-size=48", "--stride=4"]
    return [
        *(str(places / "city"), "--task=segmentation", f"--label-table={places}/names.txt"),
        *(f"--ood=night={places}/night", "--batch-size=8", *network),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, words) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "run"
    assert main(["fit", *words, "--epochs=2", f"--out={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, words) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "ft"
    assert main(["fit", *words, "--method=ft", "--epochs=2", f"--out={folder}"]) == 0
    return folder


def test_daft_learns_masks_and_says_what_it_came_to(finished):
    results = read_results(finished / "results.json")
    assert results.measure.name == "mIoU"
    assert results.classes == list(NAMES)
    home = results.scores["id"]
    assert home.main.value > 75
    assert home.main.low < home.main.value < home.main.high
    assert len(home.detail["iou"]) == 3
    assert home.detail["boundary_f1"] > 30
    assert home.detail["unasked"] > 0
    assert results.notes["head"]["curvature"] > 0
    assert 0 < results.distortions["night"]["cosine"] <= 1
    assert results.label_free == {}


def test_fine_tuning_goes_down_the_loss_of_masks(tuned):
    lines = read_lines(tuned / "metrics.jsonl")
    assert lines[-1]["task"] < 0.6 * np.log(3)
    assert {"val_mIoU", "seconds", "epoch"} <= lines[0].keys()


def test_its_page_shows_each_class_at_home_and_elsewhere(finished):
    text = (finished / "report.html").read_text()
    for said in ("mIoU in percent", "IoU in percent", "boundary F1", *NAMES, "<h2>mIoU</h2>"):
        assert said in text


def test_its_config_runs_again_and_names_masks(finished):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert (config["task"], config["stride"]) == ("segmentation", 4)
    assert Path(config["label_table"]).is_absolute()


def test_a_run_goes_on_for_more_epochs_and_not_with_other_masks(tuned, places, tmp_path, told):
    out = copytree(tuned, tmp_path / "run")
    code, _, error = told("fit", "--resume", "--epochs=3", f"--out={out}")
    assert code == 0, error
    assert [line["epoch"] for line in read_lines(out / "metrics.jsonl")] == [0, 1, 2, 3]
    code, _, error = told("fit", "--resume", "--stride=8", f"--out={out}")
    assert code == 1
    assert "was begun with stride 4, and asked for is stride 8" in error


def test_doctor_counts_pixels_by_class_and_names_odd_masks(tmp_path, told):
    city = draw_scenes(tmp_path / "city", 30)
    masks = sorted((city / "masks").iterdir())
    masks[0].unlink()
    Image.new("L", (9, 9)).save(masks[1])
    Image.new("L", (48, 48), 255).save(masks[2])
    Image.new("L", (48, 48), 7).save(masks[3])
    words = ["doctor", city, "--task=segmentation", "--backbone=test_resnet", "--weights=none"]
    (tmp_path / "names.txt").write_text("\n".join([*NAMES, "sky"]))
    code, out, error = told(*words, f"--label-table={tmp_path}/names.txt", "--json")
    assert code == 0, error
    found = json.loads(out)
    counts = Counter()
    for one in found["counts"].values():
        counts.update(one)
    assert counts["(of no class)"] == 48 * 48
    assert counts["(ignored)"] > 48 * 48
    assert counts.total() == 28 * 48 * 48
    for said in (
        "1 images have no mask and are left out: ",
        "1 masks have values of no class, which are ignored: ",
        "2 masks are ignored as a whole",
        "classes without a training pixel: sky",
    ):
        assert any(said in finding for finding in found["findings"]), said
    assert "make them one size" in next(iter(found["problems"].values()))
    assert len(found["conversion"]["layers"]) > 5
    assert "pixels by class, in percent of each set" in error


def test_evaluate_measures_the_run_again_and_other_places(finished, places, told):
    results = read_results(finished / "results.json")
    code, out, error = told("evaluate", finished, "--json", "--batch-size=7")
    assert code == 0, error
    scores = json.loads(out)["scores"]
    for test in ("id", "night"):
        assert scores[test]["mIoU"] == pytest.approx(results.scores[test].main.value, abs=1e-3)
    code, out, error = told("evaluate", finished, "--data", f"far={places}/night", "--json")
    assert code == 0, error
    assert json.loads(out)["scores"]["far"]["mIoU"] == scores["night"]["mIoU"]
    apart = f"--labels=far={places}/night/masks"
    code, out, _ = told("evaluate", finished, "--data", f"far={places}/night/images", apart)
    assert code == 0


def test_predict_writes_masks_of_the_images_own_size(finished, places, tmp_path, told):
    Image.new("RGB", (70, 31), (90, 90, 90)).save(tmp_path / "wide.jpg")
    (tmp_path / "broken.png").write_bytes(b"x")
    out = tmp_path / "masks"
    files = [places / "city" / "images", tmp_path / "wide.jpg", tmp_path / "broken.png"]
    code, said, error = told("predict", finished, *files, f"--out={out}", "--json")
    assert code == 0, error
    assert "indices are 0 ground, 1 disc, 2 square" in error
    rows = json.loads(said)["rows"]
    assert [bool(row["problem"]) for row in rows] == [False] * 41 + [True]
    with Image.open(out / "wide.png") as wide:
        assert (wide.mode, wide.size) == ("P", (70, 31))
        assert wide.getpalette()[:9] == palette(3)
    right = []
    for file in sorted((places / "city" / "masks").iterdir()):
        truth, mask = (np.asarray(Image.open(one)) for one in (file, out / file.name))
        right.append((truth == mask)[truth < 3].mean())
    assert np.mean(right) > 0.9
    code, _, error = told("predict", finished, places / "city" / "images", f"--out={files[0]}")
    assert code == 1
    assert "would take the place of an image" in error


def test_compare_ranks_methods_by_the_mean_iou(words, tmp_path, told):
    out = tmp_path / "compared"
    methods = ["--methods=lp,lp-ft", "--seeds=1", "--epochs=1", "--set", "lp.cs=5", "lp-ft.cs=5"]
    code, _, error = told("compare", *words, *methods, f"--out={out}")
    assert code == 0, error
    results = json.loads((out / "results.json").read_text())
    assert results["score"]["name"] == "mIoU"
    assert {row["method"] for row in results["rows"]} == {"lp", "lp-ft"}
    assert all(row["id_mIoU"] > 60 for row in results["rows"])
    page = (out / "report.html").read_text()
    for said in ("<h2>By class</h2>", "lp-ft, elsewhere", f"<td>{NAMES[2]}</td>"):
        assert said in page
    code, _, error = told("compare", *words, "--domains=leave-one-out", f"--out={tmp_path}/x")
    assert code == 1
    assert "is for folders of classes" in error


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--method=glc"], "GLC works on classification, and this is segmentation"),
        (["--select=snd"], "--select snd is a score of classes"),
        (["--open-set"], "leave out --open-set"),
        (["--backbone=torchvision/resnet18"], "gives one output an image here"),
        (["--labels", "no-such"], "no folder of masks at no-such"),
        (["--stride=0"], "--stride must be from 1"),
    ],
)
def test_what_masks_do_not_do_is_refused_in_words(words, more, said, tmp_path, told):
    code, _, error = told("fit", *words, *more, f"--out={tmp_path}/run")
    assert code != 0
    assert said in error
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_stream_writes_masks_as_it_goes_and_is_scored_where_some_are_known(
    finished, places, tmp_path, told
):
    night, out = places / "night", tmp_path / "masks"
    words = ("stream", finished, night, "--method=tent", "--batch-size=4", "--json")
    code, said, error = told(*words, f"--out={out}")
    assert code == 0, error
    found = json.loads(said)
    assert found["images"] == 8
    for name in ("adapted", "unadapted"):
        parts = found["scores"][name]
        assert (parts["all"]["count"], parts["last"]["count"]) == (8, 2)
    with Image.open(out / "images" / "n000.png") as mask:
        assert (mask.mode, mask.size) == ("P", (48, 48))
    code, again, _ = told("evaluate", finished, "--data", f"far={night}", "--json")
    assert found["scores"]["unadapted"]["all"]["mIoU"] == pytest.approx(
        json.loads(again)["scores"]["far"]["mIoU"]
    )
    code, said, error = told(*words[:2], night / "images", *words[3:], f"--out={out}")
    assert code == 0, error
    assert json.loads(said)["scores"] == {}
    apart = f"--labels={night}/masks"
    code, said, error = told(*words[:2], night / "images", *words[3:], apart, f"--out={out}")
    assert json.loads(said)["scores"] == found["scores"]
    more = (f"dawn={night}/images", f"--labels=dawn={night}/masks", "--cycles=2")
    code, said, error = told(*words[:3], *more, *words[3:], f"--out={tmp_path}/both")
    assert code == 0, error
    visits = json.loads(said)["visits"]
    assert [(one["domain"], one["cycle"]) for one in visits] == [
        *[("night", 1), ("dawn", 1), ("night", 2), ("dawn", 2)]
    ]
    assert visits[0]["adapted"] == found["scores"]["adapted"]["all"]
    assert set(json.loads(said)["forgetting"]["adapted"]) == {"night", "dawn"}
    assert (tmp_path / "both" / "dawn" / "2" / "n000.png").is_file()


def test_probabilities_come_beside_masks(finished, places, tmp_path, told):
    Image.new("RGB", (70, 31), (90, 90, 90)).save(tmp_path / "wide.jpg")
    words = ("predict", finished, tmp_path / "wide.jpg", f"--out={tmp_path}/masks")
    for tiles in ([], ["--tile=32", "--overlap=8"]):
        code, _, error = told(*words, "--probabilities", *tiles)
        assert code == 0, error
        shares = np.load(tmp_path / "masks" / "wide.npy")
        assert (shares.shape, shares.dtype) == ((3, 31, 70), np.float16)
        assert np.allclose(shares.sum(0, dtype=float), 1, atol=0.01)
        mask = np.asarray(Image.open(tmp_path / "masks" / "wide.png"))
        assert (shares.argmax(0) == mask).mean() > 0.99
        (tmp_path / "masks" / "wide.npy").unlink()
        assert told(*words, *tiles)[0] == 0
        assert np.array_equal(np.asarray(Image.open(tmp_path / "masks" / "wide.png")), mask)
        assert not (tmp_path / "masks" / "wide.npy").exists()


def test_tiles_of_a_run_are_those_of_its_tests_and_of_what_comes_after(
    finished, places, tmp_path, told
):
    out = copytree(finished, tmp_path / "run")
    code, _, error = told("fit", "--resume", "--tile=32", "--overlap=8", f"--out={out}")
    assert code == 0, error
    results = read_results(out / "results.json")
    whole = read_results(finished / "results.json")
    assert results.home != whole.home
    code, said, error = told("evaluate", out, "--json")
    assert json.loads(said)["scores"]["id"]["mIoU"] == pytest.approx(results.home)
    code, said, error = told("evaluate", out, "--tile=0", "--json")
    assert json.loads(said)["scores"]["id"]["mIoU"] == pytest.approx(whole.home)
    code, _, error = told("evaluate", out, "--tile=8", "--overlap=8")
    assert code == 1
    assert "--overlap must be from 0 to below --tile, 8: got 8" in error


def test_its_page_shows_the_worst_and_usual_images_with_their_masks(finished):
    results = read_results(finished / "results.json")
    for test in ("id", "night"):
        kinds = [one.kind for one in results.pictures[test]]
        assert kinds == ["worst"] * 3 + ["median"] * 3
        values = [one.value for one in results.pictures[test]]
        assert values == sorted(values)
    with Image.open(finished / results.pictures["id"][0].file) as picture:
        assert picture.size == (4 * 48 + 3 * 4, 48)
    text = (finished / "report.html").read_text()
    assert text.count("data:image/jpeg") == 12
    assert "among the worst: mIoU" in text
    assert "Surely wrong" not in text
