"""Gradients of single terms: what is merged where, in one process and in two, what is refused."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from test_rules import FABRIC, TASK, same, some_batch, weights
from toy import domains, network
from two import on_two

from adaptune.engine.descent import Descent, trainable
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.engine.rules import PerTerm
from adaptune.engine.warmup import compile_body
from adaptune.methods.supervised.l2_sp import L2SP
from adaptune.types import Batch, Group, Objective


def weighted(found):
    """Merge by weights that depend on all gradients."""
    norms = torch.stack([one.norm() for one in found.values()])
    return (norms.softmax(0)[:, None] * torch.stack(list(found.values()))).sum(0)


def made(merge=weighted, guides=()) -> L2SP:
    """Give a method of three terms, in float64, whose body's gradients are merged."""
    method = L2SP(network(), TASK, alpha=0.5, beta=0.3, batchnorm="eval").double()
    with torch.no_grad():
        method.start.mul_(0.9)
    method.rule = PerTerm(merge, method.net.body, guides)
    return method.train()


def gradients(method, name, params):
    found = method.objective(some_batch()).terms[name]
    given = torch.autograd.grad(found, params, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(given, params, strict=True)]


def descended(method, batch=None, *modules, **plan) -> Objective:
    descend = Descent(method, Plan(**plan), FABRIC)
    return descend(partial(method.objective, batch or some_batch()), *modules)


@pytest.mark.parametrize("guides", [(), ("start",)])
def test_the_body_moves_by_what_is_merged_and_the_head_by_the_sum(guides):
    method = made(guides=guides)
    body, head = trainable(method.net.body), trainable(method.net.head)
    names = ("task", "start", "head")
    flat = {
        name: torch.cat([one.flatten() for one in gradients(method, name, body)]) for name in names
    }
    wanted = weighted(flat)
    sums = [
        torch.stack(parts).sum(0)
        for parts in zip(
            *(gradients(method, name, head) for name in names if name not in guides), strict=True
        )
    ]
    before = weights(method.net.body), weights(method.net.head)
    descended(method, momentum=0.0, clip=None)
    moved = torch.cat([(b - p).flatten() for b, p in zip(before[0], body, strict=True)])
    assert torch.allclose(moved, method.lr * wanted.detach(), rtol=1e-9)
    for was, one, slope in zip(before[1], head, sums, strict=True):
        assert torch.allclose(was - one, method.lr * slope, rtol=1e-9)


def test_a_sum_of_all_terms_is_the_plain_step():
    plain, merged = made(), made(lambda found: torch.stack(list(found.values())).sum(0))
    plain.rule = type(plain).rule
    for one in (plain, merged):
        descended(one)
    for one, other in zip(plain.parameters(), merged.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


def test_naming_a_module_merges_what_of_it_is_chosen():
    method, plain = made(), made()
    before = weights(method.net.body)
    for one in (method, plain):
        one.rule = PerTerm(weighted, one.net.body) if one is method else type(one).rule
        descended(one, None, one.net.head)
    assert all(map(torch.equal, before, weights(method.net.body)))
    assert same(method.net.head, plain.net.head)


def test_parts_of_a_batch_are_refused():
    method = made()
    method.float()
    with pytest.raises(ValueError, match="L2SP merges the gradients of its terms, and gradients"):
        list(fit(method, domains(), Plan(epochs=1, accumulate=2)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_moves_nothing_and_never_reaches_the_merge(bad):
    def asked(found):
        assert all(one.isfinite().all() for one in found.values())
        return weighted(found)

    method = made(asked)
    own = method.objective

    def broken(batch: Batch) -> Objective:
        done = own(batch)
        root = (method.net.body[0].weight * 0).abs().sum().sqrt()  # of endless slope, and 0
        return Objective(
            done.terms | {"more": root if math.isnan(bad) else root * 1e300}, done.logits
        )

    method.objective = broken
    before = deepcopy(method.state_dict())
    with pytest.raises(NonFiniteError):
        descended(method)
    assert all(torch.equal(before[key], method.state_dict()[key]) for key in before)


def test_a_step_is_not_compiled():
    method = made()
    told = compile_body(method, some_batch(), FABRIC, Plan(compile=True))
    assert told.startswith("not compiled: gradients of single terms")
    assert method.net.body._compiled_call_impl is None


def test_a_group_beside_the_module_may_be_all_there_is():
    method = made()
    method.groups = lambda: [Group(method.net.head, 0.1)]
    before = weights(method.net.body)
    descended(method)
    assert all(map(torch.equal, before, weights(method.net.body)))


def trained() -> dict:
    method = made()
    data = domains(35, batch_size=15)
    for one in (data.augmented.data,):
        one.tensors = (one.tensors[0].double(), one.tensors[1])
    fabric = Fabric(accelerator="cpu", devices=1)
    if torch.distributed.is_initialized():
        method.net.layout = "contiguous"
    for _ in fit(method, data, Plan(epochs=2, layout="contiguous"), fabric=fabric):
        pass
    return {"state": method.state_dict()}


def test_two_processes_merge_as_one_does(tmp_path):
    alone, (first, second) = trained(), on_two(trained, tmp_path)
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        assert torch.allclose(first["state"][key], value, rtol=1e-9, atol=1e-12), key
