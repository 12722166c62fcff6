"""Tent: entropy goes down, batch norms' weights and biases alone move."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from toy import CLASSES, images, tinted, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods.test_time.tent import Tent
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Unlabeled

TASK = Classification(len(CLASSES))


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def rows_of(x: torch.Tensor, size: int) -> list[Unlabeled]:
    parts = torch.arange(len(x)).split(size)
    return [Unlabeled(x[part], torch.zeros_like(part), part) for part in parts]


def noisy(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = images(count, seed=31).tensors
    random = torch.Generator().manual_seed(1)
    return tinted(x, 1.0) + 3 * torch.randn(x.shape, generator=random), y


def entropy(logits: torch.Tensor) -> float:
    p = logits.double().softmax(1)
    return float(-(p * p.log()).sum(1).mean())


def test_the_term_is_the_mean_entropy_in_float64(net):
    rows = Unlabeled(torch.randn(5, 3, 8, 8), *[torch.arange(5)] * 2)
    none = torch.arange(0)
    found = Tent(net, TASK).objective(Batch(Labeled(rows.x[:0], none, none, y=none), rows))
    assert float(found.total.detach()) == pytest.approx(entropy(found.logits.detach()), rel=1e-5)


@pytest.mark.parametrize("episodic", [False, True])
def test_by_adam_each_weight_moves_by_the_rate_along_its_first_gradient(net, episodic):
    x, _ = noisy(32)
    method = Tent(net.double(), TASK, lr=0.001).double()
    asked = [p for p in method.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in asked]
    rows = rows_of(x.double(), 32)
    none = torch.arange(0)
    batch = Batch(Labeled(rows[0].x[:0], none, none, y=none), rows[0])
    slopes = torch.autograd.grad(method.eval().objective(batch).total, asked)
    plan = Plan(optimizer="adamw", layout="contiguous")
    answers = [one.logits for one in stream(method, rows * 2, plan, episodic=episodic)]
    assert torch.equal(*answers) == episodic
    if episodic:
        assert all(map(torch.equal, asked, before))
        return
    method = Tent(net, TASK, lr=0.001)
    for one, was in zip(asked, before, strict=True):
        one.data.copy_(was)
    list(stream(method, rows, plan))
    for one, was, slope in zip(asked, before, slopes, strict=True):
        wanted = was - 0.001 * slope / (slope.abs() + 1e-8)
        torch.testing.assert_close(one.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_certain_predictions_have_finite_gradients(net):
    with torch.no_grad():
        net.head.weight.mul_(1e4)
    method = Tent(net, TASK)
    list(stream(method, rows_of(noisy(32)[0], 16), Plan()))
    assert all(bool(one.isfinite().all()) for one in method.state_dict().values())


def test_entropy_goes_down_over_the_stream(net):
    x, _ = noisy(48)
    answers = [one.logits for one in stream(Tent(net, TASK, lr=0.01), rows_of(x, 48) * 20, Plan())]
    assert entropy(answers[-1]) < entropy(answers[0]) - 0.02


def test_weights_and_biases_of_batch_norms_alone_move(net):
    method = Tent(net, TASK, lr=0.01)
    before = deepcopy(method.state_dict())
    list(stream(method, rows_of(noisy(64)[0], 16), Plan()))
    moved = {key for key, value in method.state_dict().items() if not value.equal(before[key])}
    norms = [name for name, _ in batchnorms(method)]
    assert moved == {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}


def test_it_is_right_more_often_than_the_network_that_it_began_as(net):
    x, y = noisy(240)
    alone = float((net.eval()(x).argmax(1) == y).double().mean())
    said = torch.cat([one.logits for one in stream(Tent(net, TASK), rows_of(x, 24), Plan())])
    assert float((said.argmax(1) == y).double().mean()) > alone + 0.2


def test_a_batch_is_answered_by_the_network_before_its_step(net):
    x, _ = noisy(16)
    before = Tent(deepcopy(net), TASK).eval()
    (answer,) = stream(Tent(net, TASK, lr=0.1), rows_of(x, 16), Plan())
    with torch.no_grad():
        assert torch.equal(answer.logits, before(x.contiguous(memory_format=torch.channels_last)))
