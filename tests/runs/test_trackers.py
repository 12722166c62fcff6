"""Each epoch is once in every record, wherever a run was stopped."""

import csv
import json
import sys
import types

import pytest

from adaptune.commands import main
from adaptune.runs.folder import Run
from adaptune.runs.trackers import KeptRecord, open_trackers


class Kept:
    """A record of which every call is told; ``fails`` says how many sends do."""

    def __init__(self, fails: int = 0) -> None:
        self.sent, self.opened, self.closed, self.fails = [], [], [], fails

    def open(self, folder, number, settings):
        self.opened.append((number, settings))
        return number or f"record{len(self.opened)}"

    def send(self, numbers, epoch):
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no network")
        self.sent.append((epoch, numbers))

    def close(self, *, finished):
        self.closed.append(finished)


class Killed(BaseException):
    """An end that nobody handles, as a SIGKILL."""


def lines(*epochs):
    return [{"epoch": epoch, "task": 0.5, "val_accuracy": None} for epoch in epochs]


def test_a_run_that_goes_on_goes_on_in_the_same_record_with_each_epoch_once(tmp_path):
    kept = Kept()
    first = KeptRecord(tmp_path, "kept", kept)
    first.begin([], "lr: 0.1\n", anew=True)
    for line in lines(0, 1, 2):
        first.add(line)  # killed now; the checkpoint is that of epoch 1
    second = KeptRecord(tmp_path, "kept", kept)
    second.begin(lines(0, 1), "lr: 0.1\n", anew=False)
    for line in lines(2, 3):
        second.add(line)
    second.end(finished=True)
    assert [epoch for epoch, _ in kept.sent] == [0, 1, 2, 3]
    assert [number for number, _ in kept.opened] == ["", "record1"]
    assert kept.opened[0][1] == {"lr": 0.1}
    assert kept.closed == [True]


def test_a_record_asked_for_later_gets_all_epochs_and_a_new_run_a_new_record(tmp_path):
    kept = Kept()
    KeptRecord(tmp_path, "kept", kept).begin(lines(0, 1), "", anew=False)
    assert [epoch for epoch, _ in kept.sent] == [0, 1]
    KeptRecord(tmp_path, "kept", kept).begin([], "", anew=True)
    assert [number for number, _ in kept.opened] == ["", ""]


def test_what_could_not_be_delivered_waits_and_does_not_end_the_training(tmp_path):
    kept = Kept(fails=2)
    record = KeptRecord(tmp_path, "kept", kept)
    record.begin([], "", anew=True)
    for line in lines(0, 1, 2):
        record.add(line)
    record.end(finished=True)
    assert [epoch for epoch, _ in kept.sent] == [0, 1, 2]
    kept.fails = 9
    record.add(*lines(3))
    with pytest.raises(OSError, match=r"kept may lack the last epochs \(3\).*--resume sends them"):
        record.end(finished=True)


def test_a_record_that_cannot_be_opened_is_refused_before_the_run_is_touched(tmp_path):
    run = Run(tmp_path)
    kept = Kept()
    kept.open = lambda *_: 1 / 0
    run.trackers = [KeptRecord(tmp_path, "kept", kept)]
    run.results.write_text("{}")
    with pytest.raises(ValueError, match="kept could not open a record"):
        run.begin("", -1)
    assert run.results.read_text() == "{}"


def test_trackers_are_known_and_their_packages_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"--log takes csv, tensorboard, wandb, mlflow"):
        open_trackers(["paper"], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'adaptune\[mlflow\]'"):
        open_trackers(["csv", "mlflow"], tmp_path)


def rows(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_a_line_an_epoch_and_a_resumed_run_goes_on_in_it(
    photos, tiny, tmp_path, monkeypatch, told
):
    log = Run.log
    words = ["fit", photos, *tiny, "--method=ft", "--epochs=3", "--out", tmp_path, "--log=csv"]

    def kill(run, line):
        log(run, line)
        if line["epoch"] == 2:
            raise Killed  # logged, and no checkpoint written

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", kill)
        with pytest.raises(Killed):
            main(list(map(str, words)))
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]
    assert told("fit", "--resume", "--out", tmp_path)[0] == 0
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]
    known = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert float(rows(tmp_path)[3]["task"]) == known[3]["task"]


def test_a_run_of_an_earlier_version_keeps_its_events(tmp_path, photos, tiny, told):
    pytest.importorskip("tensorboard")
    words = ["--method=lp", "--cs=3", "--out", tmp_path / "run"]
    config = tmp_path / "earlier.yaml"
    config.write_text("tensorboard: true\n")
    assert told("fit", photos, *tiny, *words, "--config", config)[0] == 0
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    assert "tensorboard" not in (tmp_path / "run" / "config.yaml").read_text()


def test_weights_and_biases_goes_on_in_its_run_by_id(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        id="abc",
        log=lambda numbers, step, commit: calls.append((step, numbers)),
        finish=lambda exit_code: calls.append(("end", exit_code)),
    )
    fake = types.ModuleType("wandb")
    fake.init = lambda **given: calls.append(given) or run
    fake.Settings = lambda **given: given
    monkeypatch.setitem(sys.modules, "wandb", fake)
    fake.__spec__ = types.SimpleNamespace()
    for begun, more in (([], lines(0, 1)), (lines(0, 1), lines(2))):
        [tracker] = open_trackers(["wandb"], tmp_path)
        tracker.begin(begun, "lr: 0.1", anew=not begun)
        for line in more:
            tracker.add(line)
        tracker.end(finished=True)
    opened = [one for one in calls if isinstance(one, dict)]
    assert [one["id"] for one in opened] == [None, "abc"]
    assert opened[1]["resume"] == "allow"
    assert [one[0] for one in calls if isinstance(one, tuple)] == [0, 1, "end", 2, "end"]


def test_mlflow_has_each_epoch_once(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    for begun, more in (([], lines(0, 1)), (lines(0), lines(1, 2))):
        [tracker] = open_trackers(["mlflow"], tmp_path)
        tracker.begin(begun, "lr: 0.1", anew=not begun)
        for line in more:
            tracker.add(line)
        tracker.end(finished=True)
    client = MlflowClient()
    number = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]["record"]
    assert [one.step for one in client.get_metric_history(number, "task")] == [0, 1, 2]
    assert client.get_run(number).info.status == "FINISHED"
