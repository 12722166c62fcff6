"""DANN: the reversed gradient, the ramp, the domains' passes, the target learnt."""

from __future__ import annotations

import math

import pytest
import torch
from toy import CLASSES, TwoDomains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.dann import DANN
from adaptune.ops.adversary import critic, domain_loss, ramp, reverse
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Needs

TASK = Classification(len(CLASSES))
BOTH = Needs(unlabeled=True)


def batch(progress: float = 0.3) -> Batch:
    found = next(TwoDomains().batches(BOTH, 0))
    return Batch(found.labeled, found.unlabeled, progress)


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_the_reversal_is_the_identity_whose_gradient_is_minus_scale_times_the_plain_one(scale):
    x = torch.randn(5, 4, requires_grad=True)
    judge = critic(4, 6)
    [plain] = torch.autograd.grad(judge(x).square().sum(), x)
    assert torch.equal(reverse(x, scale), x)
    [turned] = torch.autograd.grad(judge(reverse(x, scale)).square().sum(), x)
    assert torch.allclose(turned, -scale * plain)


def test_the_ramp_is_the_papers():
    for p in (0.0, 0.2, 0.7, 1.0):
        assert ramp(p) == pytest.approx(2 / (1 + math.exp(-10 * p)) - 1)
    assert ramp(0.0) == 0


def test_the_domain_term_is_the_cross_entropy_of_the_domains_in_float64():
    method = DANN(network(), TASK, hidden=16).double()
    rows = batch()
    x = torch.cat([rows.labeled.x, rows.unlabeled.x]).double()
    rows = Batch(
        type(rows.labeled)(x[:24], rows.labeled.domain, rows.labeled.index, y=rows.labeled.y),
        type(rows.unlabeled)(x[24:], rows.unlabeled.domain, rows.unlabeled.index),
        0.3,
    )
    method.eval()
    terms = method.objective(rows).terms
    said = method.critic(method.net.body(x)).squeeze(1)
    each = [-torch.log(torch.sigmoid(one)) for one in said[:24]]
    each += [-torch.log(1 - torch.sigmoid(one)) for one in said[24:]]
    assert terms["domain"].item() == pytest.approx(sum(each).item() / 48)
    picked = method.net(x[:24]).log_softmax(1)[torch.arange(24), rows.labeled.y]
    assert terms["task"].item() == pytest.approx(-picked.mean().item())


def test_both_domains_count_alike_whatever_their_rows():
    source, target = torch.full((2, 1), 3.0), torch.full((7, 1), 1.0)
    few = domain_loss(source, target[:1])
    assert torch.allclose(domain_loss(source, target), few)


def test_the_body_climbs_what_the_critic_descends_by_weight_times_the_ramp():
    method = DANN(network(), TASK, hidden=16, weight=0.7)
    first = method.net.body[0].weight
    gradients = {}
    for progress in (0.0, 0.3):
        domain = method.objective(batch(progress)).terms["domain"]
        gradients[progress] = torch.autograd.grad(domain, [first, method.critic[0].weight])
    rows = batch()
    features = [method.net.body(side.x) for side in (rows.labeled, rows.unlabeled)]
    said = method.critic(torch.cat(features))
    plain = torch.autograd.grad(domain_loss(said[:24], said[24:]), [first, method.critic[0].weight])
    assert not gradients[0.0][0].any()
    assert torch.allclose(gradients[0.3][0], -0.7 * ramp(0.3) * plain[0], atol=1e-7)
    for progress in (0.0, 0.3):
        assert torch.allclose(gradients[progress][1], plain[1], atol=1e-7)


def test_one_pass_normalises_both_domains_by_what_they_have_together():
    method, rows = DANN(network(), TASK, hidden=16, passes="joint"), batch()
    method.train()
    norm = method.net.body[1]
    before = norm.running_mean.clone()
    method.objective(rows)
    with torch.no_grad():
        joint = method.net.body[0](torch.cat([rows.labeled.x, rows.unlabeled.x]))
    expected = 0.9 * before + 0.1 * joint.mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)
    assert norm.num_batches_tracked == dict(batchnorms(network().body))["1"].num_batches_tracked + 1


def test_conversion_gives_batch_norms_the_sources_statistics_and_leaves_the_function_alone():
    method, data = DANN(network(), TASK, batchnorm="converted", hidden=16).eval(), TwoDomains()
    before = method(data.target)
    method.prepare(data)
    norm = method.net.body[1]
    seen = method.net.body[0](data.x).mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, seen, atol=1e-5)
    assert torch.allclose(method.eval()(data.target), before, atol=1e-4)


def test_what_starts_at_random_learns_as_many_times_as_fast_as_is_said():
    method = DANN(network(), TASK, lr=0.02, new=10.0)
    assert [group.rate for group in method.groups()] == pytest.approx([0.02, 0.2, 0.2])


def test_the_target_is_learnt_better_than_from_the_source_alone():
    def mean(make) -> float:
        scores = []
        for seed in range(4):
            method, data = make(network(seed)), TwoDomains(cast=0.6)
            for _ in fit(method, data, Plan(epochs=12, seed=seed)):
                pass
            scores.append(data.accuracy(method))
        return sum(scores) / len(scores)

    alone = mean(lambda net: FineTune(net, TASK))
    assert mean(lambda net: DANN(net, TASK, hidden=64)) > alone + 10
