"""ZSCL: old likenesses are kept, and weights averaged."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains
from words import words_network

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.unsupervised.zscl import ZSCL
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Unlabeled

TASK = Classification(len(CLASSES))


def rows() -> Batch:
    batch = next(iter(TwoDomains().batches(ZSCL.needs, 0)))
    ours, theirs = batch.labeled, batch.unlabeled
    return Batch(
        Labeled(ours.x[:9].double(), ours.domain[:9], ours.index[:9], y=ours.y[:9]),
        Unlabeled(theirs.x[:7].double(), theirs.domain[:7], theirs.index[:7]),
    )


def moved(**options: float) -> ZSCL:
    method = ZSCL(words_network(), TASK, **options).double().eval()
    with torch.no_grad():
        for one in method.learner.parameters():
            one.add_(0.1 * torch.randn_like(one))
    return method


def test_terms_are_those_of_the_equations_in_float64():
    method, batch = moved(distill=0.7, pull=0.3), rows()
    found = method.objective(batch).terms
    old, new = method.begun.head.joint, method.learner.head.joint
    texts = old.tower(method.begun.head.ids) @ old.other.weight.T
    texts = texts / texts.norm(dim=1, keepdim=True)
    sides = []
    for net, joint in ((method.begun, old), (method.learner, new)):
        own = joint.project(net.body(batch.unlabeled.x))
        sides.append(old.log_warmth.exp() * own / own.norm(dim=1, keepdim=True) @ texts.T)
    for name, was, now in (("images", *sides), ("texts", sides[0].T, sides[1].T)):
        p, q = (was / 2).softmax(1), (now / 2).softmax(1)
        wanted = 0.7 * 4 * -(p * q.log()).sum(1).mean()
        assert found[name].item() == pytest.approx(wanted.item(), rel=1e-9)
    apart = sum(
        (a - b).square().sum()
        for a, b in zip(method.learner.parameters(), method.begun.parameters(), strict=True)
    )
    assert found["start"].item() == pytest.approx(0.3 * apart.item(), rel=1e-9)
    p = method.learner(batch.labeled.x).softmax(1).log()
    smoothed = 0.8 * torch.nn.functional.one_hot(batch.labeled.y, 3).double() + 0.2 / 3
    assert found["task"].item() == pytest.approx(-(smoothed * p).sum(1).mean().item(), rel=1e-9)


def test_at_the_beginning_distillation_asks_for_nothing():
    method = ZSCL(words_network(), TASK).double().eval()
    terms = method.objective(rows()).terms
    asked = torch.autograd.grad(
        terms["images"] + terms["texts"], list(method.learner.parameters()), allow_unused=True
    )
    assert max(float(one.abs().max()) for one in asked if one is not None) < 1e-5
    assert terms["start"] == 0


def test_what_is_kept_is_the_mean_of_the_beginning_and_of_every_snapshot():
    method = ZSCL(words_network(), TASK, every=2, lr=0.03).double()
    descend = Descent(method, Plan(momentum=0.0), Fabric(accelerator="cpu", devices=1))
    name = "head.joint.project.weight"
    seen = [dict(method.net.named_parameters())[name].detach().clone()]
    for number in range(5):
        method.step(rows(), descend)
        if number % 2:
            seen.append(dict(method.learner.named_parameters())[name].detach().clone())
    mean = torch.stack(seen).mean(0)
    assert torch.allclose(dict(method.net.named_parameters())[name], mean)
    anchors = method.net.head.anchors.clone()
    method.net.head.renew()
    assert torch.allclose(anchors, method.net.head.anchors)
    for one, was in zip(method.begun.parameters(), words_network().parameters(), strict=True):
        assert torch.allclose(one, was.double())


def test_it_learns_two_classes_and_still_knows_the_third():
    method = ZSCL(words_network(plain=True), TASK, lr=0.03, pull=0.01, every=2)
    data = TwoDomains()
    own = data.y < 2
    data.x, data.y, data.domain = data.x[own], data.y[own], data.domain[own]
    for _ in fit(method, data, Plan(epochs=6)):
        pass
    assert data.accuracy(method) > 90


def test_norms_keep_to_their_running_statistics():
    method = ZSCL(words_network(), TASK).double().train()
    before = method.learner.body[1].running_mean.clone()
    method.objective(rows())
    assert torch.equal(before, method.learner.body[1].running_mean)


def test_what_cannot_be_is_refused():
    for wrong in ({"distill": -1}, {"warmth": 0}, {"smooth": 1}, {"every": 0}):
        with pytest.raises(ValueError, match="distill and pull are weights"):
            ZSCL(words_network(), TASK, **wrong)
