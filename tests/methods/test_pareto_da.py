"""ParetoDA: its terms, its weights, what is held out, what moves what."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, network

from adaptune.engine.descent import Descent, trainable
from adaptune.engine.plan import Plan
from adaptune.engine.rules import flat_gradients
from adaptune.methods.unsupervised import pareto_da
from adaptune.methods.unsupervised.pareto_da import ParetoDA
from adaptune.ops.adversary import ramp
from adaptune.ops.information import information
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES))
NAMES = ("task", "domain", "target")


def made(**options) -> ParetoDA:
    torch.manual_seed(1)
    options = {"batchnorm": "eval", "hidden": 8} | options
    return ParetoDA(network(), TASK, **options).double().train()


def rows() -> Batch:
    batch = next(TwoDomains().batches(ParetoDA.needs, 0))
    ours, theirs = (replace(one, x=one.x.double()) for one in (batch.labeled, batch.unlabeled))
    return Batch(ours, theirs, 0.4)


def slopes(method: ParetoDA, batch: Batch, part) -> dict[str, torch.Tensor]:
    found = {}
    for name in (*NAMES, "classes", "guide"):
        method.zero_grad()
        method.objective(batch).terms[name].backward()
        found[name] = flat_gradients(trainable(part)).clone()
    method.zero_grad()
    return found


def test_the_terms_are_those_of_the_formula():
    method, batch = made(), rows()
    terms = method.objective(batch).terms
    x, y, z = batch.labeled.x, batch.labeled.y, batch.unlabeled.x
    f, g = method.net.body(x), method.net.body(z)
    held = batch.unlabeled.index % 4 == 3
    assert 2 <= held.sum() <= 12
    assert terms["task"].item() == pytest.approx(F.cross_entropy(method.net.head(f), y).item())
    ours, theirs = method.critic(f).sigmoid(), method.critic(g).sigmoid()
    told = -ours.log().mean() - (1 - theirs[~held]).log().sum() / (len(z) * 0.75)
    assert terms["domain"].item() == pytest.approx(told.item() / 2, rel=1e-9)
    source, target = (
        torch.stack([one(part).sigmoid()[:, 0] for one in method.critics], 1) for part in (f, g)
    )
    p = (method.net.head(g) * (1 - target)).softmax(1)

    def mirrored(q):
        mean = q.mean(0)
        return -(mean * mean.log()).sum() + (q * q.log()).sum(1).mean()

    assert terms["target"].item() == pytest.approx(-mirrored(p[~held]).item(), rel=1e-9)
    guide = math.log(3) - mirrored(p[held]).item()
    assert terms["guide"].item() == pytest.approx(guide, rel=1e-9)
    told = sum(-source[y == k, k].log().sum() / len(y) for k in range(3)) / 3
    told += -(p[~held] * (1 - target[~held]).log()).sum() / (3 * len(z) * 0.75)
    assert terms["classes"].item() == pytest.approx(told.item() / 2, rel=1e-9)
    assert ramp(batch.progress) < 1


def test_the_body_moves_by_three_times_the_weighted_gradients_and_the_rest_as_asked(monkeypatch):
    asked = []

    def weighed(products, guide, *, guided):
        asked.append(guided)
        weights = true(products, guide, guided=guided)
        assert weights.min() >= 0
        assert weights.sum().item() == pytest.approx(1)
        asked.append(weights)
        return weights

    true = pareto_da.pareto_weights
    monkeypatch.setattr(pareto_da, "pareto_weights", weighed)
    method, batch = made(), rows()
    body, head = slopes(method, batch, method.net.body), slopes(method, batch, method.net.head)
    before = [
        torch.cat([p.detach().flatten().clone() for p in trainable(part)])
        for part in (method.net.body, method.net.head)
    ]
    fabric = Fabric(accelerator="cpu", devices=1)
    method.step(batch, Descent(method, Plan(momentum=0.0, clip=None), fabric))
    guided, weights = asked
    assert guided
    wanted = 3 * weights @ torch.stack([body[name] for name in NAMES])
    for was, part, slope in zip(
        before, (method.net.body, method.net.head), (wanted, head["task"]), strict=True
    ):
        moved = was - torch.cat([p.detach().flatten() for p in trainable(part)])
        assert torch.allclose(moved, method.lr * slope, rtol=1e-6, atol=1e-12)
    assert not body["classes"].any()
    for name in ("domain", "target", "classes", "guide"):
        assert not head[name].any()


def test_what_is_held_out_is_in_no_term_but_the_guide():
    method, batch = made(), rows()
    held = batch.unlabeled.index % 4 == 3
    moved = batch.unlabeled.x.clone()
    moved[held] += 3.0
    other = replace(batch, unlabeled=replace(batch.unlabeled, x=moved))
    one, two = (method.objective(each).terms for each in (batch, other))
    assert {name for name in one if not torch.equal(one[name], two[name])} == {"guide"}


def test_where_nothing_is_held_out_in_a_batch_the_guide_says_nothing():
    method, batch = made(), rows()
    index = torch.arange(len(batch.unlabeled)) * 4
    found = slopes(method, replace(batch, unlabeled=replace(batch.unlabeled, index=index)), method)
    assert not found["guide"].any()
    assert all(found[name].any() for name in NAMES)
    assert information(torch.empty(0, 3)) == 0


def test_a_share_that_holds_out_all_or_nothing_is_refused():
    with pytest.raises(ValueError, match="--held must be above 0 and below 1: got 1"):
        made(held=1.0)
