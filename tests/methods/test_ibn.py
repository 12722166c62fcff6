"""IBN splits norms of a pretrained network, trains, and is the same network when loaded."""

from __future__ import annotations

import json

import pytest
import torch
from toy import CLASSES, TwoDomains, body, network

from adaptune.commands import main
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.ibn import IBN
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.layers.instance_batchnorm import InstanceBatchNorm
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES), domains=2)


def fitted(method, epochs=8):
    data = TwoDomains(sources=2)
    notes = [epoch.notes for epoch in fit(method, data, Plan(epochs=epochs))][0]
    return method.eval(), data, notes


def test_the_objective_is_cross_entropy_over_all_sources():
    method = IBN(network(), TASK).double().eval()
    data = TwoDomains(sources=2)
    rows = torch.arange(0, 192, 8)
    x, y = data.x[rows].double(), data.y[rows]
    done = method.objective(Batch(Labeled(x, data.domain[rows], rows, y=y)))
    probability = method(x).softmax(1)[torch.arange(len(y)), y]
    torch.testing.assert_close(done.total, -probability.log().mean())


def test_it_learns_and_the_target_that_is_darker_as_a_whole_is_no_harder():
    method, data, notes = fitted(IBN(network(), TASK, lr=0.1))
    assert notes["split"] == ["1", "4"]
    assert data.accuracy(method) > 60


def test_the_default_learns_better_than_it_began():
    method = IBN(network(), TASK)
    before = TwoDomains().accuracy(method)
    method, data, _ = fitted(method)
    assert data.accuracy(method) > before + 10


def test_conversion_of_the_other_half_leaves_the_function_alone():
    method = IBN(network(), TASK, batchnorm="converted").eval()
    data = TwoDomains(sources=2)
    before = method(data.x)
    notes = method.prepare(data)
    torch.testing.assert_close(method(data.x), before, atol=1e-5, rtol=1e-4)
    assert notes["conversion"]


def test_batch_norms_second_half_follows_the_sources_and_the_first_has_nothing_to_follow():
    method, data, _ = fitted(IBN(network(), TASK), epochs=2)
    still = network().body[1].running_mean[4:]
    moved = method.net.body[1].batch.running_mean
    assert moved.shape == still.shape
    assert not torch.equal(moved, still)
    assert method.net.body[1].instance.running_mean is None


def test_a_saved_network_loads_with_its_norms_split(tmp_path):
    method, data, _ = fitted(IBN(network(), TASK), epochs=2)
    method.net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    torch.testing.assert_close(again(data.target), method(data.target))


@pytest.mark.parametrize("stages", [0, -1])
def test_no_stage_is_refused(stages):
    with pytest.raises(ValueError, match=f"first {stages} stages"):
        IBN(network(), TASK, stages=stages)


def test_without_splits_it_would_be_fine_tuning():
    ours, theirs = IBN(network(), TASK), FineTune(network(), TASK)
    assert ours.lr == theirs.lr
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_finished_run_predicts(tmp_path, photos, tiny, told):
    words = ["fit", str(photos), "--method", "ibn", *tiny, "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    said = json.loads((tmp_path / "run" / "best" / "network.json").read_text())
    assert said["surgery"] == [{"name": "ibn", "arguments": {"stages": 1}}]
    net = Network.load(tmp_path / "run" / "best")
    assert any(isinstance(layer, InstanceBatchNorm) for layer in net.modules())
    code, _, error = told("predict", tmp_path / "run", photos, "--out", tmp_path / "p.csv")
    assert code == 0, error
