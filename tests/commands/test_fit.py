"""`fit` leaves a whole run behind, gives the same run for the same config, and resumes exactly."""

import json
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

from adaptune.commands import main
from adaptune.network import Network
from adaptune.run import Run, read_lines

TIMED = {"seconds", "config"}


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def without_time(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in TIMED}


def assert_same_run(one, other) -> None:
    """Two folders hold the same run: results, metrics, and every weight bit for bit."""
    pair = [without_time(results(folder)) for folder in (one, other)]
    changes = [[layer["change"] for layer in found.pop("changes")] for found in pair]
    assert changes[0] == pytest.approx(changes[1])  # sums go by memory layout
    assert pair[0] == pair[1]
    logs = [[without_time(line) for line in read_lines(f / "metrics.jsonl")] for f in (one, other)]
    assert logs[0] == logs[1]
    for name in ("best", "last"):
        pair = [load_file(folder / name / "network.safetensors") for folder in (one, other)]
        assert pair[0].keys() == pair[1].keys()
        assert all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


def test_a_run_leaves_settings_metrics_networks_results_and_a_page(finished, photos):
    assert f"data: {photos}" in (finished / "config.yaml").read_text()
    lines = read_lines(finished / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all("task" in line for line in lines[1:])
    assert (finished / "report.html").read_text().startswith("<!doctype html>")
    for name in ("best", "last"):
        assert Network.load(finished / name).classes == ("dots", "rings", "stripes")


def test_results_say_how_well_it_went_and_on_what(finished_results, photos):
    found = finished_results
    assert found["method"] == "daft"
    assert found["seed"] == 0
    assert found["id_accuracy"] > 60, "the classes should be easy to learn"
    assert found["ood"] == {"sketch": found["ood_accuracy"]}
    assert set(found["distortion"]) == {"cosine", "l2"}
    counts = found["data"]["counts"]
    total = sum(counts[split] for split in ("train", "val", "test"))
    assert total == len(list(photos.glob("*/*")))
    assert found["scores"]["id"]["count"] == counts["test"]
    assert "left out" in found["data"]["notes"][0]


def test_the_best_epoch_is_the_last_of_those_most_accurate_on_validation(finished):
    found, lines = results(finished), read_lines(finished / "metrics.jsonl")
    best = max(lines, key=lambda line: (line["val_accuracy"], line["epoch"]))
    assert (found["best_epoch"], found["val_accuracy"]) == (best["epoch"], best["val_accuracy"])


def test_a_config_given_back_gives_the_same_run_and_json_says_the_same(finished, tmp_path, told):
    again = tmp_path / "again"
    code, out, _ = told("fit", "--config", finished / "config.yaml", "--out", again, "--json")
    assert code == 0
    assert_same_run(again, finished)
    assert json.loads(out) == results(again)


def test_another_seed_is_another_run(finished, tmp_path, told):
    words = ["--config", finished / "config.yaml", "--seed", 1, "--epochs", 1]
    assert told("fit", *words, "--out", tmp_path / "other")[0] == 0
    pair = [load_file(f / "last/network.safetensors") for f in (finished, tmp_path / "other")]
    assert any(not torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


def test_a_finished_run_is_not_overwritten(finished, fit_words, told):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    code, _, error = told(*fit_words, "--out", finished)
    assert code == 1
    assert "holds a run already" in error
    assert "--resume" in error
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, told apart from a real one."""


@pytest.mark.parametrize(
    ("epoch", "logged"), [(0, False), (2, False), (2, True)], ids=["start", "before", "between"]
)
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(
    finished, fit_words, tmp_path, monkeypatch, epoch, logged
):
    log = Run.log

    def interrupt(run, line):
        if line["epoch"] != epoch or logged:
            log(run, line)
        if line["epoch"] == epoch:
            raise Interrupted

    folder = tmp_path / "run"
    monkeypatch.setattr(Run, "log", interrupt)
    with pytest.raises(Interrupted):
        main([*fit_words, "--out", str(folder)])
    monkeypatch.undo()
    assert not (folder / "results.json").exists()
    assert main([*fit_words, "--out", str(folder)]) == 1, "it should ask for --resume"
    assert main(["fit", "--resume", "--out", str(folder)]) == 0
    assert_same_run(folder, finished)


def test_resuming_a_finished_run_changes_nothing(finished, tmp_path):
    folder = copytree(finished, tmp_path / "run")
    assert main(["fit", f"--out={folder}", "--resume"]) == 0
    assert_same_run(folder, finished)


def test_bad_files_are_left_out_and_named_in_the_results_or_fatal_if_strict(
    own_photos, tiny, tmp_path, told
):
    bad = own_photos / "dots" / "broken.png"
    bad.write_bytes(b"no image")
    words = ["fit", own_photos, *tiny, "--method=lp", "--cs=3", "--val-share=0.3"]
    code, _, said = told(*words, "--out", tmp_path / "run")
    assert code == 0
    assert f"left out {bad}: cannot identify" in said
    assert list(results(tmp_path / "run")["data"]["problems"]) == [str(bad)]
    code, _, error = told(*words, "--strict=true", "--out", tmp_path / "strict")
    assert code == 1
    assert f"{bad} could not be read" in error


def test_tensorboard_events_are_written_on_demand(photos, tiny, tmp_path, told):
    pytest.importorskip("tensorboard")
    words = ["--method=lp", "--cs=3", "--tensorboard"]
    assert told("fit", photos, *tiny, *words, "--out", tmp_path / "run")[0] == 0
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize("wrong", ["--ood=sketch", "--batch-size=0", "--val-share=2"])
def test_what_cannot_be_is_refused_with_a_message(photos, tiny, tmp_path, told, wrong):
    code, _, error = told("fit", photos, *tiny, wrong, "--out", tmp_path / "run")
    assert code == 1
    assert error.startswith("adaptune fit: ")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
