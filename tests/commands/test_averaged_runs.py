"""A run of averaged weights keeps, tests and tells of those, and goes on from its own."""

import json
from shutil import copytree

import pytest
import torch
import yaml

from adaptune.commands import main
from adaptune.networks.network import Network
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runtime.files import read_lines

OPTIONS = ["--average=ema", "--average-decay=0.8", "--interpolate=0.5", "--select=last"]


@pytest.fixture(scope="module")
def words(photos, sketches, tiny) -> list[str]:
    return ["fit", str(photos), f"--ood=sketch={sketches}", *tiny, "--method=ft", *OPTIONS]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    assert main([*words, "--epochs=2", "--out", str(folder)]) == 0
    return folder


def test_what_is_kept_and_tested_is_half_way_to_the_average(averaged):
    state = Checkpoints(averaged / "checkpoints").newest().state["fit"]
    start, mean = state["average"]["start"], state["average"]["mean"]
    kept = dict(Network.load(averaged / "best").named_parameters())
    assert kept.keys() == mean.keys()
    for name, one in kept.items():
        torch.testing.assert_close(one.detach(), (start[name] + mean[name]) / 2)
    assert any(not torch.equal(mean[name], state["method"][f"net.{name}"]) for name in mean)
    config = yaml.safe_load((averaged / "config.yaml").read_text())
    assert (config["average"], config["average_decay"], config["interpolate"]) == ("ema", 0.8, 0.5)
    assert "interpolate: 0.5" in (averaged / "report.html").read_text()
    tested = json.loads((averaged / "results.json").read_text())["val_accuracy"]
    assert tested == list(read_lines(averaged / "metrics.jsonl"))[-1]["val_accuracy"]


def test_a_longer_run_goes_on_from_the_weights_that_were_trained(averaged, words, tmp_path, told):
    run = copytree(averaged, tmp_path / "run")
    assert told("fit", "--resume", "--out", run, "--interpolate=1.0")[0] == 1
    assert told("fit", "--resume", "--out", run, "--average=none")[0] == 1
    assert told("fit", "--resume", "--out", run, "--epochs=3")[0] == 0
    state = Checkpoints(run / "checkpoints").newest().state["fit"]
    before = Checkpoints(averaged / "checkpoints").newest().state["fit"]
    assert state["average"]["count"] == before["average"]["count"] * 3 / 2
    for name, one in before["average"]["start"].items():
        assert torch.equal(state["average"]["start"][name], one)
