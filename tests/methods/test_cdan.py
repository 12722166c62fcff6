"""CDAN: what the critic is shown, the weights of sure images, who climbs, the target learnt."""

from __future__ import annotations

import math

import pytest
import torch
from toy import CLASSES, TwoDomains, network, source_alone, target_mean

from adaptune.methods.unsupervised import cdan
from adaptune.methods.unsupervised.cdan import CDAN
from adaptune.ops.adversary import multilinear, ramp, random_multilinear
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Needs

TASK = Classification(len(CLASSES))


def batch(progress: float = 0.3) -> Batch:
    found = next(TwoDomains().batches(Needs(unlabeled=True), 0))
    for side in (found.labeled, found.unlabeled):
        object.__setattr__(side, "x", side.x.double())
    return Batch(found.labeled, found.unlabeled, progress)


def made(**options) -> CDAN:
    return CDAN(network(), TASK, hidden=16, **options).double().eval()


@pytest.mark.parametrize("certain", [True, False])
@pytest.mark.parametrize("most", [4096, 20])
def test_the_domain_term_is_the_formula_in_float64(monkeypatch, certain, most):
    monkeypatch.setattr(cdan, "MOST", most)
    method, rows = made(certain=certain, random=5), batch()
    wanted = []
    for side, domain in ((rows.labeled, 1), (rows.unlabeled, 0)):
        total = 0.0
        for f in method.net.body(side.x):
            z = method.net.head(f[None])[0]
            g = z.exp() / z.exp().sum()
            if most == 20:
                assert method.sums.shape == (12, 5)
                h = (method.sums.T @ f) * (method.mixes.T @ g) / 5**0.5
            else:
                h = torch.stack([a * b for a in f for b in g])
            d = torch.sigmoid(method.critic(h[None])[0, 0])
            weight = 1 + math.exp(float((g * g.log()).sum().detach())) if certain else 1
            total -= weight * math.log(float((d if domain else 1 - d).detach()))
        wanted.append(total / 24)
    found = method.objective(rows).terms
    assert found["domain"].item() == pytest.approx(sum(wanted) / 2)
    picked = method.net(rows.labeled.x).log_softmax(1)[torch.arange(24), rows.labeled.y]
    assert found["task"].item() == pytest.approx(-picked.mean().item())


@pytest.mark.parametrize("certain", [True, False])
def test_body_and_head_climb_what_the_critic_descends_by_weight_times_the_ramp(certain):
    method, rows = made(certain=certain, weight=0.7), batch()
    ours = [method.net.body[0].weight, method.net.head.weight, method.critic[0].weight]
    found = torch.autograd.grad(method.objective(rows).terms["domain"], ours)
    features = [method.net.body(side.x) for side in (rows.labeled, rows.unlabeled)]
    logits = [method.net.head(one) for one in features]
    plain = 0.0
    for f, z, sign in zip(features, logits, (1, -1), strict=True):
        said = sign * method.critic(multilinear(f, z.softmax(1)))[:, 0]
        doubt = -(z.softmax(1) * z.log_softmax(1)).sum(1)
        plain = plain - ((1 + certain * (-doubt).exp()) * torch.sigmoid(said).log()).mean() / 2
    wanted = torch.autograd.grad(plain, ours)
    for one, other in zip(found[:2], wanted[:2], strict=True):
        torch.testing.assert_close(one, -0.7 * ramp(0.3) * other)
    torch.testing.assert_close(found[2], wanted[2])


def test_random_products_keep_inner_products_in_the_mean():
    torch.manual_seed(0)
    f, g = torch.randn(2, 6).double(), torch.rand(2, 3).double()
    sums, mixes = torch.randn(6, 100_000).double(), torch.randn(3, 100_000).double()
    shown = random_multilinear(f, g, sums, mixes)
    exact = multilinear(f, g)
    torch.testing.assert_close(shown @ shown.T, exact @ exact.T, rtol=0.1, atol=0.1)


def test_two_passes_leave_statistics_that_followed_both_domains():
    method, rows = made(), batch()
    norm = method.train().net.body[1]
    with torch.no_grad():
        means = [method.net.body[0](s.x).mean((0, 2, 3)) for s in (rows.labeled, rows.unlabeled)]
    before = norm.running_mean.clone()
    method.objective(rows)
    expected = 0.9 * (0.9 * before + 0.1 * means[0]) + 0.1 * means[1]
    torch.testing.assert_close(norm.running_mean, expected)


def test_the_target_is_learnt_better_than_from_the_source_alone():
    assert target_mean(lambda net: CDAN(net, TASK, hidden=64)) > source_alone() + 10
