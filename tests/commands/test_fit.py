"""`fit` leaves a whole run behind, gives the same run for the same config, and resumes exactly."""

import json
import os
import signal
from dataclasses import replace
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

from adaptune.commands import main
from adaptune.data.cache import store_of
from adaptune.methods.supervised.daft import DAFT
from adaptune.networks.network import Network
from adaptune.runs.folder import Run
from adaptune.runs.setup import Setup
from adaptune.runtime.files import read_lines

TIMED = {"seconds", "config"}


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def without_time(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in TIMED}


def assert_same_run(one, other) -> None:
    """Two folders hold the same run: results, metrics, and every weight bit for bit."""
    pair = [without_time(results(folder)) for folder in (one, other)]
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
    code, out, err = told("fit", "--config", finished / "config.yaml", "--out", again, "--json")
    assert code == 0
    assert "steps are few: give more --epochs" in err
    assert_same_run(again, finished)
    assert json.loads(out) == results(again)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_run_with_a_cache_is_the_run_without_one(
    finished, fit_words, tmp_path, monkeypatch, kind
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store_of.cache_clear()
    out = tmp_path / "run"
    assert main([*fit_words, f"--cache={kind}", "--out", str(out)]) == 0
    assert store_of(kind).kept > 0
    store_of.cache_clear()
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (finished, out))
    for key in ("val_accuracy", "scores", "distortions", "label_free", "changes"):
        assert one[key] == other[key]


@pytest.mark.parametrize(("method", "policy"), [("ft", "eval"), ("daft", "eval"), ("ft", "train")])
def test_frozen_batch_norms_keep_the_statistics_they_came_with(
    method, policy, photos, tiny, tmp_path, told
):
    words = [photos, *tiny, "--method", method, "--batchnorm", policy, "--epochs", "1"]
    code, _, error = told("fit", *words, "--out", tmp_path)
    assert code == 0, error
    state = load_file(tmp_path / "last" / "network.safetensors")
    begun = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}  # of random weights
    kept = [
        torch.equal(value, torch.full_like(value, begun[end]))
        for key, value in state.items()
        if (end := key.rpartition(".")[2]) in begun
    ]
    assert kept == [policy == "eval"] * len(kept)
    assert json.loads((tmp_path / "last" / "network.json").read_text())["batchnorm"] == policy
    norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
    assert norms
    for norm in norms:  # from 1; they learn whatever the statistics do
        assert not state[f"{norm}weight"].eq(1).all()


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


class Interrupted(BaseException):
    """An end that nobody handles, as a SIGKILL."""


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


def at_step(monkeypatch, number: int, do) -> None:
    """Do something in the middle of a step of DAFT, counted from 0."""
    objective, taken = DAFT.objective, iter(range(1000))

    def watched(method, batch):
        if next(taken) == number:
            do()
        return objective(method, batch)

    monkeypatch.setattr(DAFT, "objective", watched)


@pytest.mark.parametrize(
    ("number", "code", "step"),
    [(signal.SIGINT, 130, 0), (signal.SIGTERM, 143, 1), (signal.SIGTERM, 143, 2)],
)
def test_a_signal_ends_the_step_keeps_the_run_and_says_how_to_go_on(
    finished, fit_words, tmp_path, monkeypatch, told, number, code, step
):
    folder = tmp_path / "a run"
    at_step(monkeypatch, step, lambda: os.kill(os.getpid(), number))
    ended, _, said = told(*fit_words, "--out", folder)
    assert ended == code
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert f"stopped by {name}: the run is kept up to epoch {1 + step // 2}" in said
    assert f"go on with: adaptune fit --resume --out '{folder}'" in said
    monkeypatch.undo()
    ended, _, said = told("fit", "--resume", "--out", folder)
    assert ended == 0
    assert f"going on from {folder / 'checkpoints'}" in said
    assert_same_run(folder, finished)


def test_a_signal_before_the_first_step_ends_at_once(fit_words, tmp_path, monkeypatch, told):
    monkeypatch.setattr(DAFT, "prepare", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert told(*fit_words, "--out", tmp_path / "run")[0] == 143


def test_a_second_signal_does_not_wait(fit_words, tmp_path, monkeypatch, told):
    at_step(monkeypatch, 0, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    ended, _, said = told(*fit_words, "--out", tmp_path / "run")
    assert ended == 130
    assert "kept up to" not in said


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_killed_within_an_epoch_goes_on_there_to_the_bit(
    finished, fit_words, tmp_path, monkeypatch, told, step
):
    def kill():
        raise Interrupted

    at_step(monkeypatch, step, kill)
    folder = tmp_path / "run"
    words = [*fit_words, "--checkpoint-minutes=0", "--out", str(folder)]
    with pytest.raises(Interrupted):
        main(words)
    monkeypatch.undo()
    code, _, said = told("fit", "--resume", "--out", folder)
    assert code == 0
    assert ("step 1" in said) == (step % 2 == 1)
    assert_same_run(folder, finished)


def test_resuming_does_not_look_at_the_data_again(finished, fit_words, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main([*fit_words, "--out", str(folder)]) == 130
    monkeypatch.undo()
    monkeypatch.setattr(DAFT, "prepare", lambda *_: pytest.fail("it was prepared already"))
    assert main(["fit", "--resume", "--out", str(folder)]) == 0
    assert_same_run(folder, finished)


def test_a_checkpoint_of_another_method_is_refused(finished, fit_words, tmp_path, told):
    folder, other = copytree(finished, tmp_path / "run"), tmp_path / "other.yaml"
    other.write_text("method: ft")
    code, _, said = told(*fit_words, "--config", other, "--resume", "--out", folder)
    assert code == 1
    assert "is of DAFT on 3 classes, and asked for is FineTune on 3" in said


def test_what_is_not_finite_stops_the_run_with_its_place_and_files(
    fit_words, tmp_path, monkeypatch, told
):
    def break_it(layer, args, output):
        return output * float("nan") if layer.training else output

    opened = Setup.network

    def broken(setting, classes):
        net = opened(setting, classes)
        net.body.conv_stem.register_forward_hook(break_it)
        return net

    monkeypatch.setattr(Setup, "network", broken)
    code, _, said = told(*fit_words, "--out", tmp_path / "run")
    assert code == 1
    assert "the term 'task' is nan in epoch 1, step 1" in said
    assert "the first output that is not finite is that of net.body.conv_stem (Conv2d" in said
    assert "It happened on" in said
    assert "and 11 more" in said
    assert Run(tmp_path / "run").checkpoints.newest().state["fit"]["progress"]["epoch"] == 0


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    finished, fit_words, tmp_path, monkeypatch, told
):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = (10_000, before[1])
    at_step(monkeypatch, 3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full))
    folder = tmp_path / "run"
    try:
        code, _, said = told(*fit_words, "--out", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    monkeypatch.undo()
    assert code == 1
    assert "network.safetensors could not be written (File too large): make room" in said
    assert f"go on with: adaptune fit --resume --out {folder}" in said
    assert main(["fit", "--resume", "--out", str(folder)]) == 0
    assert_same_run(folder, finished)


def test_steps_that_are_not_finite_are_skipped_and_counted_on_demand(
    fit_words, tmp_path, monkeypatch, told
):
    objective, taken = DAFT.objective, iter(range(1000))

    def broken(method, batch):
        done = objective(method, batch)
        bad = next(taken) in (1, 2)  # the second time to find the layer
        return replace(done, terms={"task": done.terms["task"] * (float("inf") if bad else 1)})

    monkeypatch.setattr(DAFT, "objective", broken)
    folder = tmp_path / "run"
    assert told(*fit_words, "--on-nonfinite=skip", "--out", folder)[0] == 0
    assert results(folder)["skipped_steps"] == 1
    assert "1 steps were left out" in (folder / "report.html").read_text()
    assert [line.get("skipped") for line in read_lines(folder / "metrics.jsonl")] == [None, 1, None]


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
    assert f"left out {bad}: it is none of the images that are read" in said
    assert list(results(tmp_path / "run")["data"]["problems"]) == [str(bad)]
    code, _, error = told(*words, "--strict=true", "--out", tmp_path / "strict")
    assert code == 1
    assert f"{bad} could not be read" in error


def test_tensorboard_events_are_written_on_demand(photos, tiny, tmp_path, told):
    pytest.importorskip("tensorboard")
    words = ["--method=lp", "--cs=3", "--log=tensorboard"]
    assert told("fit", photos, *tiny, *words, "--out", tmp_path / "run")[0] == 0
    assert list((tmp_path / "run").glob("events.out.tfevents*"))


@pytest.mark.parametrize("wrong", ["--ood=sketch", "--batch-size=0", "--val-share=2"])
def test_what_cannot_be_is_refused_with_a_message(photos, tiny, tmp_path, told, wrong):
    code, _, error = told("fit", photos, *tiny, wrong, "--out", tmp_path / "run")
    assert code == 1
    assert error.startswith("adaptune fit: ")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
