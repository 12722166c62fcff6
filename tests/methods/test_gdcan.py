"""GDCAN: its terms, the target's path in predictions, what is saved, the target learnt."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, TwoDomains, body, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.gdcan import GDCAN
from adaptune.networks.layers.domain_attention import attentions, source_first
from adaptune.networks.network import Network
from adaptune.ops.discrepancy import mmd, subset_mmd
from adaptune.tasks.classification import Classification
from adaptune.types import Needs

TASK = Classification(len(CLASSES))
DATA = TwoDomains(cast=0.6)
BATCH = next(DATA.batches(Needs(unlabeled=True), 0))


def learnt(epochs: int = 2, batchnorm: str = "eval") -> GDCAN:
    method = GDCAN(network(), TASK, alignment=0.3, batchnorm=batchnorm)
    for _ in fit(method, DATA, Plan(epochs=epochs)):
        pass
    return method


def test_the_terms_are_those_of_the_formula():
    method = learnt()
    method.train()
    torch.manual_seed(4)
    terms = method.objective(BATCH).terms
    torch.manual_seed(4)
    y, head = BATCH.labeled.y, method.net.head
    chosen = (torch.rand(3, 24) < 0.8) & (y == torch.arange(3)[:, None])
    with source_first(method.net.body, 24):
        ours = method.net.body(BATCH.labeled.x)
    theirs = method.net.body(BATCH.unlabeled.x)
    fixed, back = (f + head.features(f) for f in (theirs, ours))
    z, zt, zs = (f @ head.weight.T + head.bias for f in (ours, fixed, back))
    zt, zs = zt + head.logits(zt), zs + head.logits(zs)
    p = zt.softmax(1)
    soft = {"count": 1, "bandwidth": 1.68}
    expected = {
        "task": -z.log_softmax(1)[torch.arange(24), y].mean(),
        "discrepancy": 0.3 * (mmd(ours, fixed) + mmd(z.softmax(1), p, **soft)),
        "subsets": 0.3 * (subset_mmd(ours, y, back, chosen) + subset_mmd(z, y, zs, chosen, **soft)),
        "entropy": 0.1 * -(p * p.log()).sum(1).mean(),
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-6), name


def test_a_step_decides_the_paths_of_the_next():
    method = GDCAN(network(), TASK)
    assert not any(one.separate for one in attentions(method))
    method.train()
    from lightning_fabric import Fabric

    method.step(BATCH, Descent(method, Plan(), Fabric(accelerator="cpu", devices=1)))
    assert any(one.separate for one in attentions(method))


def test_before_training_the_network_is_the_pretrained_one():
    net, x = network().eval(), DATA.target
    before = net(x)
    assert torch.allclose(GDCAN(net, TASK).eval()(x), before, atol=1e-6)


def test_what_was_trained_is_saved_and_predicts_the_same_without_the_method(tmp_path):
    method = learnt().eval()
    attentions(method)[0].separate.fill_(True)
    method.net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    assert torch.allclose(again(DATA.target), method(DATA.target), atol=1e-6)


def test_a_network_that_has_attention_already_goes_on_with_it(tmp_path):
    learnt().net.save(tmp_path)
    net = Network.load(tmp_path, module=body())
    assert len(attentions(GDCAN(net, TASK))) == len(attentions(net)) == 2


def test_in_a_joint_pass_batch_norms_normalise_both_domains_by_what_they_have_together():
    method = GDCAN(network(), TASK, passes="joint")
    method.train()
    seen = []
    norm = next(iter(dict(batchnorms(method)).values()))
    norm.register_forward_hook(lambda *call: seen.append(call[2]))
    method.objective(BATCH)
    (given,) = seen
    assert len(given) == len(BATCH.labeled) + len(BATCH.unlabeled)
    means = (given.mean((0, 2, 3)) - norm.bias).abs()
    apart = (given[: len(BATCH.labeled)].mean((0, 2, 3)) - norm.bias).abs()
    assert means.max() < 1e-5 < 0.01 < apart.max()


@pytest.mark.parametrize("passes", ["joint", "separate", "apart"])
def test_a_gate_behind_batch_norm_tells_domains_apart_only_where_they_share_a_batch(passes):
    method = GDCAN(network(), TASK, passes=passes)
    method.train()
    method.objective(BATCH)
    first = next(iter(attentions(method)))  # right behind a batch norm
    source, target = first.seen[:, 1].tolist()
    assert (abs(source - target) < 1e-6) == (passes != "joint")


def test_in_eval_mode_statistics_of_batch_norms_stand_still_and_their_weights_learn():
    method, fresh = learnt(), network()
    ours = dict(batchnorms(method)).values()
    for one, other in zip(ours, dict(batchnorms(fresh)).values(), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)
        assert not torch.equal(one.weight, other.weight)


def test_the_target_is_learnt_better_than_from_the_source_alone():
    def mean(make) -> float:
        scores = []
        for seed in range(2):
            method = make(network(seed))
            for _ in fit(method, DATA, Plan(epochs=12, seed=seed)):
                pass
            scores.append(DATA.accuracy(method))
        return sum(scores) / len(scores)

    alone = mean(lambda net: FineTune(net, TASK))
    assert mean(lambda net: GDCAN(net, TASK, alignment=0.3)) > alone + 10
