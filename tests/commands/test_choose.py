"""`choose` scores several runs on images without labels, and says which to take."""

import json
from pathlib import Path
from shutil import copytree

import pytest
import torch

from adaptune.commands import main
from adaptune.networks.network import Network
from adaptune.selection.bag import BAG_SCORES


@pytest.fixture(scope="module")
def several(tmp_path_factory, fit_words, finished):
    """Three runs on photos, one of which never learnt: to read only."""
    folder = tmp_path_factory.mktemp("several")
    words = [*fit_words, "--method=ft", "--epochs=1"]
    assert main([*words, "--out", str(folder / "ft")]) == 0
    untrained = copytree(folder / "ft", folder / "untrained")
    net = Network.load(untrained / "best")
    torch.nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(0))
    net.save(untrained / "best")
    return [finished, folder / "ft", untrained]


def chosen(told, *words):
    code, out, error = told("choose", *words, "--json")
    assert code == 0, error
    return json.loads(out), error


def test_scores_of_one_network_are_those_of_the_run_on_the_same_images(several, sketches, told):
    """A run's own test on sketches leaves out what it was trained on; all are given here."""
    found, _ = chosen(told, *several, "--images", sketches, "--by", "snd")
    assert found["images"] == len(list(sketches.glob("*/*")))
    for folder in map(str, several[:2]):
        scores = found["runs"][folder]
        kept = json.loads(Path(folder, "results.json").read_text())["label_free"]["sketch"]
        assert scores["id-validation"] == pytest.approx(kept["id-validation"])
        assert 0 <= scores["atc-calibrated"] <= 100


def test_the_run_of_the_highest_score_is_taken(several, sketches, told):
    found, error = chosen(told, *several, "--images", sketches, "--by", "mano")
    best = max(found["runs"], key=lambda folder: found["runs"][folder]["mano"])
    assert (found["take"], found["by"]) == (best, "mano")
    assert f"take {best}, which has the highest mano" in error


def test_runs_agree_as_their_answers_do(several, sketches, tmp_path, told):
    words = []
    for number, folder in enumerate(several):
        out = tmp_path / f"{number}.csv"
        code, said, _ = told("predict", folder, sketches, "--out", out, "--json")
        assert code == 0
        words.append([row["predicted"] for row in json.loads(said)["rows"]])
    found, _ = chosen(told, *several, "--images", sketches)
    alike = [sum(a == b for a, b in zip(words[0], w, strict=True)) for w in words[1:]]
    expected = 100 * sum(alike) / 2 / len(words[0])
    assert found["runs"][str(several[0])]["agreement"] == pytest.approx(expected)
    assert found["runs"][str(several[0])]["aline-d"] is not None


def test_one_run_is_estimated_and_has_none_to_agree_with(finished, sketches, told):
    found, _ = chosen(told, finished, "--images", sketches)
    assert found["take"] == str(finished)
    assert not set(found["runs"][str(finished)]) & set(BAG_SCORES)


def test_saved_networks_alone_have_what_needs_no_validation_images(several, sketches, told):
    networks = [folder / "best" for folder in several]
    code, _, error = told("choose", *networks, "--images", sketches)
    assert code == 1
    assert "id-validation has no value for any of these runs: choose by another --by" in error
    assert "agreement" in error
    found, error = chosen(told, *networks, "--images", sketches, "--by", "majority-vote")
    assert "finds no validation images" in error
    scores = found["runs"][found["take"]]
    assert scores["majority-vote"] is not None
    assert scores["aline-d"] is None


def test_files_that_cannot_be_read_are_left_out_for_all(several, sketches, tmp_path, told):
    folder = copytree(sketches, tmp_path / "sketch")
    (folder / "dots" / "dots-03.png").write_bytes(b"broken")
    found, error = chosen(told, *several[:2], "--images", folder)
    assert found["images"] == len(list(sketches.glob("*/*"))) - 1
    assert "dots-03.png is left out" in error
    for path in folder.glob("*/*"):
        path.write_bytes(b"broken")
    code, _, error = told("choose", *several[:2], "--images", folder)
    assert code == 1
    assert "image files could be read" in error


def test_runs_of_other_classes_are_refused(finished, sketches, tmp_path, told):
    Network.from_timm("test_efficientnet", ["dots", "rings"]).save(tmp_path)
    code, _, error = told("choose", finished, tmp_path, "--images", sketches)
    assert code == 1
    assert "choose among runs of the same classes" in error


def test_images_are_asked_for(finished, tmp_path, told):
    code, _, error = told("choose", finished)
    assert code == 2
    assert "--images is missing" in error
    code, _, error = told("choose", finished, "--images", tmp_path)
    assert code == 1
    assert f"no image files in {tmp_path}" in error
