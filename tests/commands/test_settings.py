"""`fit` in every setting: with a target, with several sources, from a finished run alone."""

import json
import shutil

import pytest
import torch

from adaptune.commands import choices, main
from adaptune.engine.method import Method
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.runtime.files import read_lines
from adaptune.types import Batch, Group, Needs, Objective


class Certain(Method):
    """Learns from labels, and makes predictions on the target certain."""

    needs = Needs(unlabeled=True, views=1)
    setting = "unlabelled target"

    def __init__(self, net, task, *, lr: float = 0.02) -> None:
        super().__init__(net, task)
        self.lr = lr

    def objective(self, batch: Batch) -> Objective:
        assert not hasattr(batch.unlabeled, "y")
        assert len(batch.unlabeled.views[0]) == len(batch.unlabeled) == 16
        logits = self(batch.labeled.x)
        log = self(batch.unlabeled.x).log_softmax(1)
        entropy = -(log.exp() * log).sum(1).mean()
        return Objective(
            {"task": self.task.loss(logits, batch.labeled.y), "entropy": 0.1 * entropy}, logits
        )

    def groups(self) -> list[Group]:
        return [Group(self, self.lr)]


class Several(Certain):
    """Needs two labelled domains."""

    needs = Needs(domains=2)

    def objective(self, batch: Batch) -> Objective:
        assert set(batch.labeled.domain.tolist()) == {0, 1}
        assert self.task.domains == 2
        logits = self(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)


class Free(Certain):
    """Sees the target alone; keeps its first answers in a buffer."""

    needs = Needs(labeled=False, unlabeled=True)
    setting = "source-free"

    def prepare(self, data):
        seen = torch.cat([rows.index for rows in data.unlabeled()])
        self.register_buffer("answers", torch.zeros(len(seen)))
        return {}

    def objective(self, batch: Batch) -> Objective:
        assert len(batch.labeled) == 0
        logits = self(batch.unlabeled.x)
        log = logits.log_softmax(1)
        return Objective({"entropy": -(log.exp() * log).sum(1).mean()}, logits)


@pytest.fixture(autouse=True)
def _listed(monkeypatch):
    """List the methods of these tests; the list of names is made anew by every parser."""
    own = {"certain": Certain, "several": Several, "free": Free}
    assert not own.keys() & set(choices.TRAINING)  # read before, so that no later test finds them
    for name, method in own.items():
        monkeypatch.setitem(METHODS, name, method)


@pytest.fixture(scope="module")
def flat(sketches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "wild"
    folder.mkdir()
    for path in sketches.glob("*/*.png"):
        shutil.copy(path, folder)
    return folder


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_run_with_a_target_is_tested_on_it_and_says_so(photos, sketches, tiny, tmp_path, told):
    run = tmp_path / "run"
    words = ["fit", photos, "--target", sketches, "--method=certain", *tiny, "--epochs=2"]
    code, _, said = told(*words, "--out", run)
    assert code == 0, said
    found = results(run)
    assert list(found["ood"]) == ["sketch"]
    assert found["id_accuracy"] > 0
    assert found["data"]["target"] == {"name": "sketch", "images": 60}
    lines = read_lines(run / "metrics.jsonl")
    assert {"task", "entropy", "val_accuracy"} <= set(lines[1])
    page = (run / "report.html").read_text()
    assert "certain on photo to sketch" in page
    assert "60 images of sketch without labels" in page
    assert f"target: {sketches}" in (run / "config.yaml").read_text()
    again = tmp_path / "again"
    assert told("fit", "--config", run / "config.yaml", "--out", again)[0] == 0
    assert results(again)["scores"] == found["scores"]
    code, out, _ = told("evaluate", run, "--json")
    assert json.loads(out)["scores"] == found["scores"]


def test_an_epoch_can_be_chosen_by_a_target_without_labels(photos, flat, tiny, tmp_path, told):
    run = tmp_path / "run"
    words = ["fit", photos, f"--target=wild={flat}", "--method=certain", *tiny, "--epochs=2"]
    code, _, said = told(*words, "--select=snd", "--out", run)
    assert code == 0, said
    assert "wild: has no labels" in said
    found = results(run)
    assert found["selection"] == {"by": "snd", "epoch": found["best_epoch"]}
    assert found["ood"] == {}
    assert all("score" in line for line in read_lines(run / "metrics.jsonl"))


def test_the_last_epoch_is_tested_where_that_is_asked_for(photos, tiny, tmp_path, told):
    words = ["fit", photos, "--method=ft", *tiny, "--epochs=2", "--select=last"]
    assert told(*words, "--out", tmp_path / "run")[0] == 0
    assert results(tmp_path / "run")["best_epoch"] == 2


def test_several_sources_are_trained_on_and_tested_at_home(photos, sketches, tiny, tmp_path, told):
    run = tmp_path / "run"
    words = ["fit", photos, f"--source=sketch={sketches}", "--method=several", *tiny]
    code, _, said = told(*words, "--epochs=1", "--out", run)
    assert code == 0, said
    alone = len(list(photos.glob("*/*")))
    counts = results(run)["data"]["counts"]
    assert sum(counts[split] for split in ("train", "val", "test")) == 2 * alone
    assert f"- sketch={sketches}" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("certain", [], "Certain needs unlabelled images and got none: pass --target FOLDER"),
        ("several", [], "Several needs 2 labelled domains and got 1: pass more with --source"),
        ("free", ["--target={sketch}"], "Free sees no labelled image, so it starts from a fin"),
        ("ft", ["--source=sketch"], "no domain 'sketch' to train on: give NAME=DIR"),
    ],
)
def test_what_a_method_lacks_is_said(photos, sketches, tiny, tmp_path, told, method, words, said):
    words = [word.format(sketch=sketches) for word in words]
    code, _, error = told("fit", photos, *words, f"--method={method}", *tiny, "--out", tmp_path)
    assert code == 1
    assert said in error


@pytest.fixture
def orphaned(finished, tmp_path):
    """A finished run whose own images and settings are gone."""
    run = tmp_path / "finished"
    shutil.copytree(finished, run)
    (run / "config.yaml").write_text("data: /gone\n")
    return run


FREE = ["--method=free", "--batch-size=16", "--epochs=2"]


def test_a_run_without_its_source_goes_from_a_finished_run_to_the_target(
    orphaned, sketches, tmp_path, told
):
    run = tmp_path / "run"
    words = ["fit", "--from", orphaned, "--target", sketches, *FREE]
    code, _, said = told(*words, "--out", run)
    assert code == 0, said
    assert "sketch before training: " in said
    found = results(run)
    assert "id_accuracy" not in found
    assert "val_accuracy" not in found
    assert found["selection"] == {"by": "last", "epoch": 2}
    before = json.loads(told("evaluate", orphaned, "--data", f"sketch={sketches}", "--json")[1])
    assert found["before"] == {"sketch": before["scores"]["sketch"]["accuracy"]}
    assert list(found["ood"]) == ["sketch"]
    assert Network.load(run / "best").preprocess == Network.load(orphaned / "best").preprocess
    page = (run / "report.html").read_text()
    assert "free on finished to sketch" in page
    assert "<th>before</th><th>after</th>" in page
    code, out, _ = told("evaluate", run, "--json")
    again, first = json.loads(out)["scores"]["sketch"], found["scores"]["sketch"]
    assert again | {"loss": 0} == first | {"loss": 0}
    assert again["loss"] == pytest.approx(first["loss"], rel=1e-5)  # layouts go by time
    assert told("report", run)[0] == 0


def test_the_folder_that_a_run_was_trained_on_may_be_deleted(
    own_photos, sketches, tiny, tmp_path, told
):
    first, then = tmp_path / "first", tmp_path / "then"
    assert told("fit", own_photos, *tiny, "--method=ft", "--epochs=1", "--out", first)[0] == 0
    shutil.rmtree(own_photos)
    code, _, said = told("fit", f"--from={first}", f"--target={sketches}", *FREE, "--out", then)
    assert code == 0, said
    assert not own_photos.exists()
    assert results(then)["classes"] == results(first)["classes"]


def test_a_saved_network_and_a_folder_of_images_are_enough(orphaned, flat, tmp_path, told):
    run = tmp_path / "run"
    code, _, said = told(
        "fit", f"--from={orphaned / 'best'}", f"--target={flat}", *FREE, "--out", run
    )
    assert code == 0, said
    found = results(run)
    assert (found["scores"], found["distortion"], found["before"]) == ({}, {}, {})
    assert "Nothing had labels to be tested by." in (run / "report.html").read_text()


def test_a_run_without_its_source_goes_on_to_the_bit(orphaned, sketches, tmp_path, monkeypatch):
    words = ["fit", f"--from={orphaned}", f"--target={sketches}", *FREE, "--checkpoint-minutes=0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*words, "--out", str(whole)]) == 0
    objective, taken = Free.objective, iter(range(1000))

    def kill(method, batch):
        if next(taken) == 4:
            raise KeyboardInterrupt
        return objective(method, batch)

    monkeypatch.setattr(Free, "objective", kill)
    assert main([*words, "--out", str(killed)]) != 0
    monkeypatch.undo()
    for name, method in {"free": Free}.items():
        monkeypatch.setitem(METHODS, name, method)
    assert main(["fit", "--resume", "--out", str(killed)]) == 0
    weights = [(f / "last" / "network.safetensors").read_bytes() for f in (whole, killed)]
    assert weights[0] == weights[1]
    assert results(whole)["scores"] == results(killed)["scores"]


@pytest.mark.parametrize("score", ["iwv", "dev"])
def test_scores_that_need_the_source_say_so_where_it_is_gone(
    orphaned, sketches, tmp_path, told, score
):
    words = ["fit", f"--from={orphaned}", f"--target={sketches}", *FREE, f"--select={score}"]
    code, _, error = told(*words, "--out", tmp_path / "run")
    assert code == 1
    assert f"--select {score} needs validation images of the source, and there are none" in error


def test_other_scores_choose_the_epoch_where_the_source_is_gone(orphaned, sketches, tmp_path, told):
    run = tmp_path / "run"
    words = ["fit", f"--from={orphaned}", f"--target={sketches}", *FREE, "--select=nuclear-norm"]
    code, _, said = told(*words, "--out", run)
    assert code == 0, said
    assert results(run)["selection"]["by"] == "nuclear-norm"
    assert "oracle_epoch" in results(run)["selection"]
    assert results(run)["label_free"]["sketch"]["iwv"] is None


def test_what_starts_from_a_run_says_what_is_missing(orphaned, sketches, tmp_path, told):
    start = ["fit", f"--from={orphaned}", "--out", tmp_path / "run"]
    code, _, error = told(*start, "--method=ft")
    assert code == 1
    assert "FineTune needs labelled images and got none: pass DATA as well" in error
    code, _, error = told(*start, "--method=free")
    assert "Free needs unlabelled images and got none: pass --target FOLDER" in error
    code, _, error = told(*start, "--method=free", "--target", sketches, "--classes", "cat")
    assert "--classes are those of the network that is started from: dots, rings" in error
    code, _, error = told("fit", "--target", sketches, "--method=free", "--out", tmp_path / "run")
    assert code == 2
    assert "--from is missing" in error


def test_a_supervised_method_starts_from_a_finished_run_too(orphaned, photos, tmp_path, told):
    run = tmp_path / "run"
    words = ["fit", photos, f"--from={orphaned}", "--method=ft", "--batch-size=16", "--epochs=1"]
    code, _, said = told(*words, "--out", run)
    assert code == 0, said
    assert set(results(run)["before"]) == {"id"}
    assert results(run)["id_accuracy"] > 60


def test_methods_without_a_source_are_compared(orphaned, sketches, tmp_path, told):
    out = tmp_path / "comparison"
    words = ["compare", f"--from={orphaned}", f"--target={sketches}", "--methods=free"]
    code, _, said = told(*words, "--batch-size=16", "--epochs=1", "--seeds=2", "--out", out)
    assert code == 0, said
    found = json.loads((out / "results.json").read_text())
    assert found["summary"][0]["id"] is None
    assert "sketch" in found["rows"][0]["before"]
    assert "free on finished to sketch" in (out / "report.html").read_text()


def test_methods_with_a_target_are_compared_with_those_without(
    photos, sketches, tiny, tmp_path, told
):
    out = tmp_path / "comparison"
    words = ["compare", photos, f"--target={sketches}", "--methods=ft,certain", *tiny]
    code, _, said = told(*words, "--epochs=1", "--seeds=1", "--out", out)
    assert code == 0, said
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [list(row["ood"]) for row in rows] == [["sketch"]] * 2


@pytest.mark.parametrize("command", ["fit", "search"])
def test_the_help_lists_the_methods_that_can_be_trained(command, told):
    _, said, _ = told(command, "--help")
    assert ",dann" in said
    assert ",tent" not in said


def test_a_comparison_refuses_what_answers_streams(two_domains, tmp_path, capsys):
    data, out = str(two_domains / "photo"), str(tmp_path / "out")
    assert main(["compare", data, "--methods", "ft,tent", "--out", out]) == 1
    assert "adaptune stream" in capsys.readouterr().err
