"""UDIM: gradients of a head in closed form, its objective by the formula, and what a step is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch.func import functional_call, grad, vmap
from toy import CLASSES, domains, network

from adaptune.engine.descent import Descent
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.udim import UDIM
from adaptune.methods.supervised.sam import SAM
from adaptune.ops.head_gradients import (
    gradient_inconsistency,
    gradient_moments,
    head_gradients,
    residuals,
)
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def batch(progress: float = 0.5):
    rows = next(iter(domains().batches(UDIM.needs, 0)))
    object.__setattr__(rows, "progress", progress)
    return rows


def by_autograd(head, features, y):
    """Give every row's gradient of cross-entropy in a head's weight and bias."""
    params = {name: one.detach() for name, one in head.named_parameters()}

    def loss(params, feature, label):
        return F.cross_entropy(functional_call(head, params, (feature[None],)), label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(params, features, y)
    return found["weight"], found["bias"]


def test_gradients_of_single_rows_are_those_of_autograd_in_float64():
    head = torch.nn.Linear(6, 4).double()
    features, y = torch.randn(9, 6).double(), torch.arange(9) % 4
    wanted = by_autograd(head, features, y)
    logits = head(features)
    found = head_gradients(features, logits, y)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    means, squares = gradient_moments(features, residuals(logits, y))
    for one, mean, square in zip(wanted, means, squares, strict=True):
        torch.testing.assert_close(mean, one.mean(0), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(square, one.square().mean(0), rtol=1e-10, atol=1e-12)


def test_the_inconsistency_is_the_formula_over_single_gradients_in_float64():
    head = torch.nn.Linear(6, 4).double()
    x, near = torch.randn(2, 9, 6).double()
    y = torch.arange(9) % 4
    spreads, norms = [], 0.0
    for own, other in zip(by_autograd(head, x, y), by_autograd(head, near, y), strict=True):
        own, other = own.flatten(1), other.flatten(1)
        centre = own.mean(0)
        variances = torch.stack([(one - centre).square().mean(0) for one in (own, other)])
        spreads.append((variances - variances.mean(0)).square().mean(0))
        norms += float(other.square().sum(1).mean()) / other.shape[1]
    wanted = torch.cat(spreads).mean().item() + norms
    found = gradient_inconsistency(x, head(x), y, near, head(near))
    assert found.item() == pytest.approx(wanted, rel=1e-10)
    same = gradient_inconsistency(x, head(x), y, x, head(x))
    own = head_gradients(x, head(x).detach(), y)
    assert same.item() == pytest.approx(sum(float(one.square().mean()) for one in own))


def test_images_are_moved_by_a_length_to_where_the_loss_is_higher():
    method = UDIM(network(), TASK, eta=0.7).eval()
    x, y = batch().labeled.x, batch().labeled.y
    moved = method.moved(x, y)
    lengths = (moved - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.7))
    assert not moved.requires_grad
    assert F.cross_entropy(method(moved), y) > F.cross_entropy(method(x), y)


def test_the_way_of_an_image_is_the_gradient_of_loss_and_steepness_in_float64():
    method = UDIM(network().double(), TASK, eta=1.0, rho=0.3).double().eval()
    x, y = batch().labeled.x.double()[:5], batch().labeled.y[:5]

    def steep(x):
        loss = F.cross_entropy(method(x), y)
        slopes = torch.autograd.grad(loss, list(method.net.parameters()))
        return (loss + 0.3 * torch.cat([one.flatten() for one in slopes]).norm()).item()

    way, tiny = method.moved(x, y) - x, 1e-5
    probe = torch.randn_like(x)
    for row in range(2):
        along = torch.zeros_like(x)
        lengths = []
        for direction in (way[row], probe[row]):
            along[row] = direction
            lengths.append((steep(x + tiny * along) - steep(x - tiny * along)) / (2 * tiny))
        slope, other = lengths
        assert slope > 0
        assert other == pytest.approx(slope * float((way[row] * probe[row]).sum()), rel=1e-3)


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"warm": 1.0}])
def test_without_weight_or_while_warm_it_is_sam_to_the_bit(options):
    found = []
    for method in (UDIM(network(), TASK, **options), SAM(network(), TASK)):
        for _ in fit(method, domains(), Plan(epochs=1, layout="contiguous")):
            pass
        found.append(method.state_dict())
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())


def test_a_step_is_the_gradient_after_the_climb_and_that_of_the_inconsistency_before_it():
    method = UDIM(network(), TASK, weight=2.0, lr=0.01, batchnorm="eval").double()
    rows = batch()
    object.__setattr__(rows.labeled, "x", rows.labeled.x.double())
    method.train()
    params = list(method.net.parameters())
    before = [one.detach().clone() for one in params]
    slope = torch.autograd.grad(method.objective(rows).total, params)
    beside = torch.autograd.grad(method.inconsistency(rows).total, params)
    length = torch.cat([one.flatten() for one in slope]).norm()
    with torch.no_grad():
        for one, way in zip(params, slope, strict=True):
            one.add_(0.05 * way / length)
    sharp = torch.autograd.grad(method.objective(rows).total, params)
    with torch.no_grad():
        for one, was in zip(params, before, strict=True):
            one.copy_(was)
    descend = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    descend.at(0.0, len(rows.labeled))
    descend.part(1.0, first=True, last=True)
    done = method.step(rows, descend)
    assert set(done.terms) == {"task", "inconsistency"}
    for one, was, a, b in zip(params, before, sharp, beside, strict=True):
        torch.testing.assert_close(one, was - 0.01 * (a + b), rtol=1e-6, atol=1e-9)


def test_running_statistics_follow_the_first_pass_alone():
    found = []
    for method in (UDIM(network(), TASK), SAM(network(), TASK)):
        method.train()
        descend = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
        descend.at(0.5, len(batch().labeled))
        descend.part(1.0, first=True, last=True)
        method.step(batch(), descend)
        found.append(dict(method.net.named_buffers()))
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())


def test_it_learns_and_makes_gradients_smaller_than_sam_does():
    rows = batch()
    found = []
    for method in (UDIM(network(), TASK, eta=2.0), UDIM(network(), TASK, eta=2.0, warm=1.0)):
        for _ in fit(method, domains(), Plan(epochs=6, layout="contiguous")):
            pass
        assert evaluate(method, domains().scan("test"), TASK).scores.main.value > 85
        method.eval()
        found.append(method.inconsistency(rows).total.item())
    assert found[0] < found[1]


@pytest.mark.parametrize("options", [{"rho": -1.0}, {"eta": float("inf")}, {"warm": 1.5}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="numbers from 0 up|share of the run"):
        UDIM(network(), TASK, **options)
