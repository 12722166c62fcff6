"""How gradients are formed: where they are taken, what that leaves as it was, what it refuses."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from toy import CLASSES, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent, trainable
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.engine.rules import Plain, Sharp, climb, climbed
from adaptune.methods.supervised.ft import FineTune
from adaptune.tasks.classification import Classification
from adaptune.types import Objective

TASK = Classification(len(CLASSES))
FABRIC = Fabric(accelerator="cpu", devices=1)


def made(rule, *, policy: str = "eval", dropout: bool = False) -> FineTune:
    """Give a fine-tuned network in float64 and train mode, with a rule."""
    method = FineTune(network(), TASK, batchnorm=policy).double()
    if dropout:
        method.net.body.append(nn.Dropout(0.5))
    method.rule = rule
    return method.train()


def some_batch():
    batch = next(iter(domains().batches(FineTune.needs, 0)))
    object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
    return batch


def descended(method: FineTune, *modules: nn.Module, **plan) -> Objective:
    torch.manual_seed(0)
    descend = Descent(method, Plan(**plan), FABRIC)
    return descend(partial(method.objective, some_batch()), *modules)


def gradients(method: FineTune) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return list(torch.autograd.grad(method.objective(some_batch()).total, trainable(method)))


def weights(method: nn.Module) -> list[torch.Tensor]:
    return [one.detach().clone() for one in method.parameters()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def norm(tensors) -> torch.Tensor:
    return torch.cat([one.flatten() for one in tensors]).norm()


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_the_climb_is_the_papers_in_float64_whatever_the_scale_of_gradients(adaptive, scale):
    random = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), ()]
    w, g = (
        [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]
        for _ in range(2)
    )
    found = climb(
        w, [scale * one for one in g], torch.tensor(0.7, dtype=torch.float64), adaptive=adaptive
    )
    if adaptive:
        length = norm([a * b for a, b in zip(w, g, strict=True)])
        wanted = [0.7 * a**2 * b / length for a, b in zip(w, g, strict=True)]
    else:
        wanted = [0.7 * b / norm(g) for b in g]
        assert float(norm(found)) == pytest.approx(0.7, rel=1e-12)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan])
def test_where_the_gradient_has_no_direction_there_is_no_climb(bad):
    g = torch.full((2,), bad)
    for adaptive in (False, True):
        [way] = climb([torch.ones(2)], [g], torch.tensor(1.0), adaptive=adaptive)
        assert way.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_sharp_step_goes_down_the_gradient_found_after_the_climb(adaptive):
    method, there = (made(Sharp(0.3, adaptive)) for _ in range(2))
    radius = torch.tensor(0.3, dtype=torch.float64)
    way = climb(weights(there), gradients(there), radius, adaptive=adaptive)
    before = weights(method)
    with torch.no_grad():
        for one, step in zip(there.parameters(), way, strict=True):
            one += step
    descended(method)
    rate = Plan().rate(method.groups()[0])
    wanted = [w - rate * g for w, g in zip(before, gradients(there), strict=True)]
    for one, other in zip(method.parameters(), wanted, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("policy", ["train", "eval"])
@pytest.mark.parametrize("dropout", [False, True])
def test_a_climb_of_no_length_is_the_plain_step_to_the_bit(policy, dropout):
    sharp, plain = (made(rule, policy=policy, dropout=dropout) for rule in (Sharp(0.0), Plain()))
    terms = [descended(method).terms["task"] for method in (sharp, plain)]
    assert torch.equal(*terms)
    assert same(sharp, plain)
    other = made(Sharp(0.5), policy=policy, dropout=dropout)
    descended(other)
    assert not same(other, plain)


def test_a_radius_may_be_made_from_the_objective_before_the_climb():
    def radius(done: Objective) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return done.terms["task"].detach() / 10

    made_of_loss = made(Sharp(radius))
    by_number = made(Sharp(made_of_loss.objective(some_batch()).total.item() / 10))
    descended(made_of_loss)
    descended(by_number)
    for one, other in zip(made_of_loss.parameters(), by_number.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_running_statistics_follow_the_first_evaluation_alone():
    sharp, plain = (made(rule, policy="train") for rule in (Sharp(0.5), Plain()))
    descended(sharp)
    plain.objective(some_batch())
    for (_, one), (_, other) in zip(batchnorms(sharp), batchnorms(plain), strict=True):
        assert torch.equal(one.running_mean, other.running_mean)
        assert torch.equal(one.running_var, other.running_var)
        assert int(one.num_batches_tracked) == int(other.num_batches_tracked) == 31
        assert one.track_running_stats


@pytest.mark.parametrize("call", [0, 1])
def test_whatever_is_raised_weights_and_modes_are_as_they_were(call):
    method = made(Sharp(0.5), policy="train")
    before, calls = weights(method), iter(range(2))

    def broken() -> Objective:
        if next(calls) == call:
            raise KeyError("out of luck")
        return method.objective(some_batch())

    with pytest.raises(KeyError, match="luck"):
        Descent(method, Plan(), FABRIC)(broken)
    assert all(map(torch.equal, weights(method), before))
    assert all(one.track_running_stats for _, one in batchnorms(method))


@pytest.mark.parametrize(("call", "when"), [(0, ""), (1, " after the climb")])
def test_what_is_not_finite_is_named_and_no_weight_moves(call, when):
    method = made(Sharp(0.5))
    before, calls = weights(method), iter(range(2))

    def broken() -> Objective:
        done = method.objective(some_batch())
        factor = math.nan if next(calls) == call else 1.0
        return Objective({"task": done.total * factor}, done.logits)

    with pytest.raises(NonFiniteError, match=f"the term 'task{when}' is nan"):
        Descent(method, Plan(), FABRIC)(broken)
    assert all(map(torch.equal, weights(method), before))


def test_a_radius_that_is_not_finite_is_named_and_no_weight_moves():
    method = made(Sharp(lambda done: done.total.detach() * math.inf))
    before = weights(method)
    with pytest.raises(NonFiniteError, match="the term 'radius' is inf"):
        descended(method)
    assert all(map(torch.equal, weights(method), before))


def test_naming_a_module_climbs_and_moves_that_module_alone():
    method = made(Sharp(0.5))
    before, seen = deepcopy(method), []

    def watched() -> Objective:
        seen.append(weights(method.net.body))
        return method.objective(some_batch())

    descend = Descent(method, Plan(), FABRIC)
    descend(watched, method.net.head)
    assert same(method.net.body, before.net.body)
    assert not same(method.net.head, before.net.head)
    assert all(map(torch.equal, *seen)), "the body stays during the climb"
    descend(watched, method.net.body)
    assert not same(method.net.body, before.net.body)


def test_clip_bounds_the_gradient_after_the_climb():
    method = made(Sharp(0.5))
    before = weights(method)
    descended(method, clip=0.01)
    moved = norm([a - b for a, b in zip(weights(method), before, strict=True)])
    rate = Plan().rate(method.groups()[0])
    assert float(moved) == pytest.approx(0.01 * rate, rel=1e-3)


def test_a_batch_in_parts_is_refused():
    method = FineTune(network(), TASK)
    method.rule = Sharp(0.1)
    with pytest.raises(ValueError, match=r"FineTune climbs before it descends.*--accumulate 1"):
        list(fit(method, domains(), Plan(epochs=1, accumulate=2)))


def test_bfloat16_climbs_and_learns():
    method = FineTune(network(), TASK)
    method.rule = Sharp(0.05, adaptive=True)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    *_, last = fit(method, domains(), Plan(epochs=8), fabric=fabric)
    assert last.terms["task"] < 0.9


def test_a_scaler_of_float16_that_overflows_skips_the_step_and_goes_on():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[precision])
    method = FineTune(network(), TASK)
    method.rule = Sharp(0.05)
    descend, before = Descent(method.train(), Plan(clip=1.0), fabric), weights(method)
    batch = next(iter(domains().batches(method.needs, 0)))
    calls = 0
    while all(map(torch.equal, weights(method), before)):
        descend(partial(method.objective, batch))
        calls += 1
    assert 1 < calls < 40
    assert scaler.get_scale() < 2.0**40
    plain = FineTune(network(), TASK)
    plain.rule = Sharp(0.05)
    once = Descent(plain.train(), Plan(clip=1.0), FABRIC)
    once(partial(plain.objective, batch))
    for one, other in zip(weights(method), weights(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)


def test_parameters_are_back_to_the_bit_after_a_climb_that_cannot_be_undone_by_subtraction():
    w = torch.tensor([1e-9])
    with climbed([w], [torch.tensor([1e9])]):
        assert float(w) == 1e9
    assert float(w) == float(torch.tensor(1e-9))


def test_steps_checked_late_leave_out_what_is_not_finite_after_a_climb(monkeypatch):
    method = FineTune(network(), TASK)
    method.rule = Sharp(lambda done: done.total.detach() * math.nan)
    before = weights(method)
    sgd = Descent._optimizer

    def late(self, parts):
        self.late = True
        return sgd(self, parts)

    monkeypatch.setattr(Descent, "_optimizer", late)
    epochs = list(fit(method, domains(64), Plan(epochs=1, on_nonfinite="skip")))
    assert epochs[-1].skipped == 4
    assert all(map(torch.equal, weights(method), before))
