"""Every command takes the same files for images, and the same names for classes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copy2, copytree
from unicodedata import normalize

import pytest

from adaptune.networks.network import Network
from adaptune.runs.checkpoint import Checkpoints

LEFT = ["__MACOSX/dots/._dots-01.png", "dots/._dots-01.png", "dots/.DS_Store"]
IMAGES = ["dots/.ipynb_checkpoints/a-checkpoint.png", ".cache/9.png", "$RECYCLE.BIN/1.png"]
COUNTED = "6 hidden files and folders, or such as programs leave behind, were passed over"


@pytest.fixture
def littered(own_photos) -> Path:
    """Photos among what an archive, a notebook and disks left behind."""
    image = own_photos / "dots/dots-01.png"
    for name in (*LEFT, *IMAGES):
        (own_photos / name).parent.mkdir(parents=True, exist_ok=True)
        (own_photos / name).write_bytes(b"\0\5\x16\7" if name in LEFT else image.read_bytes())
    (own_photos / "dots/6.png").mkdir()
    return own_photos


@pytest.mark.parametrize("command", ["predict", "stream"])
def test_answers_are_given_to_images_alone(finished, littered, tmp_path, told, command):
    out = tmp_path / "labels.csv"
    code, _, error = told(command, finished, littered, "--out", out)
    assert code == 0
    with out.open(newline="") as lines:
        paths = [line["path"] for line in csv.DictReader(lines)]
    assert paths == [str(path) for path in sorted(littered.glob("[drs]*/[drs]*.png"))]
    assert error.count(COUNTED) == 1


def test_a_file_that_predict_is_given_by_name_is_taken(finished, littered, tmp_path, told):
    out = tmp_path / "labels.csv"
    names = [littered / IMAGES[0], littered / IMAGES[1]]
    code, _, error = told("predict", finished, *names, "--out", out)
    assert code == 0
    assert out.read_text().count("a-checkpoint.png") == 1
    assert "passed over" not in error


def test_doctor_and_evaluate_count_what_was_left_behind_once(finished, littered, told):
    code, out, _ = told("doctor", littered, "--json")
    assert code == 0
    found = json.loads(out)
    assert set(found["counts"]["train"]) == {"dots", "rings", "stripes"}
    assert found["problems"] == {}
    assert sum(COUNTED in finding for finding in found["findings"]) == 1
    code, out, error = told("evaluate", finished, f"--data=x={littered}", "--json")
    assert code == 0
    assert json.loads(out)["problems"] == {}
    assert error.count(COUNTED) == 1


def test_fit_trains_on_images_alone(littered, tiny, tmp_path, told):
    words = ["fit", littered, "--target", littered, *tiny, "--method=ft", "--epochs=1"]
    code, _, error = told(*words, "--out", tmp_path / "run")
    assert code == 0, error
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["classes"] == ["dots", "rings", "stripes"]
    assert results["data"]["problems"] == {}
    assert sum(results["data"]["counts"][split] for split in ("train", "val", "test")) == 60
    assert results["data"]["target"]["images"] == 60


def test_a_flat_folder_is_refused_with_what_it_holds_and_is_a_target(photos, tiny, tmp_path, told):
    flat = copytree(photos / "dots", tmp_path / "flat")
    code, _, error = told("fit", flat, *tiny, "--method=ft", "--out", tmp_path / "run")
    assert code == 1
    assert f"{flat} holds 20 images directly, in no class folder: expected a folder for" in error
    words = ["fit", photos, "--target", flat, *tiny, "--method=ft", "--epochs=1"]
    assert told(*words, "--out", tmp_path / "other")[0] == 0


@pytest.fixture
def numbered(photos, tmp_path) -> Path:
    """Photos under the numbers 2, 9 and 10."""
    for name, number in (("dots", "2"), ("rings", "9"), ("stripes", "10")):
        copytree(photos / name, tmp_path / "numbered" / number)
    return tmp_path / "numbered"


def test_a_run_that_began_under_another_order_is_refused_or_goes_on_in_its_own(
    numbered, tiny, tmp_path, told, monkeypatch
):
    run = tmp_path / "run"
    begun = ["fit", numbered, *tiny, "--method=ft", "--epochs=1", "--classes", "10", "2", "9"]
    assert told(*begun, "--out", run)[0] == 0
    config = (run / "config.yaml").read_text()
    assert "\nclasses:\n- '10'\n- '2'\n- '9'\n" in config
    # earlier versions listed the classes in this order by themselves
    (run / "config.yaml").write_text(config.replace("classes:\n- '10'\n- '2'\n- '9'\n", ""))
    kept = Checkpoints(run / "checkpoints").newest()
    code, _, error = told("fit", "--resume", "--out", run, "--epochs=2")
    assert code == 1
    assert "go on with --classes 10 2 9" in error
    assert Checkpoints(run / "checkpoints").newest().file == kept.file
    words = ["fit", "--resume", "--out", run, "--epochs=2", "--classes", "10", "2", "9"]
    assert told(*words)[0] == 0
    assert Network.load(run / "last").classes == ("10", "2", "9")
    assert json.loads((run / "results.json").read_text())["classes"] == ["10", "2", "9"]


def test_a_run_is_the_same_whatever_form_the_disk_has(photos, tiny, tmp_path, told):
    weights = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        for path in sorted(photos.glob("*/*.png")):
            name = normalize(form, f"é{path.parent.name}/é{path.name}")
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy2(path, root / name)
        words = ["fit", root, *tiny, "--method=ft", "--epochs=1", "--out", tmp_path / f"{form}-run"]
        assert told(*words)[0] == 0
        weights.append(Network.load(tmp_path / f"{form}-run/last").state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    words = [tmp_path / "NFC-run", f"--data=x={tmp_path / 'NFD'}", "--json"]
    code, out, _ = told("evaluate", *words)
    assert code == 0
    counts = json.loads((tmp_path / "NFC-run/results.json").read_text())["data"]["counts"]
    assert json.loads(out)["scores"]["x"]["count"] == counts["test"]
