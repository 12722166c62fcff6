"""Methods with two domains in a step: the passes they take, what follows, what is resumed."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, classifies, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.method import hyperparameters as defaults
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Needs

BOTH = {
    name: one
    for name, one in METHODS.items()
    if one.needs == Needs(unlabeled=True) and "passes" in defaults(one)
}
NAMES = [name for name, method in BOTH.items() if classifies(method) and name != "memspm"]
"""All but one that takes no step before it looked at the data, and has tests of its own."""
WAYS = ["joint", "separate", "apart"]
SOURCE, TARGET = 24, 17
"""Rows of each domain in a batch."""

PASSES = {
    ("mcd", "joint"): ["both"] * 4,
    ("mcd", "separate"): ["source", "source", "target", "target", "target"],
}
"""Passes of a step, where they are not one of both domains or one of each; ``mcd`` repeats 2."""


def made(name: str, way: str, **options: object) -> Method:
    options = {"repeats": 2} | options if name == "mcd" else options
    return METHODS[name](network(), Classification(len(CLASSES)), passes=way, **options)


def batch() -> Batch:
    found = next(TwoDomains().batches(Needs(unlabeled=True), 0))
    theirs = found.unlabeled
    few = type(theirs)(theirs.x[:TARGET], theirs.domain[:TARGET], theirs.index[:TARGET])
    return Batch(found.labeled, few, 0.3)


def passes(name: str, way: str) -> list[str]:
    """Say which domains the passes of a step are of."""
    alike = "joint" if way == "joint" else "separate"
    return PASSES.get((name, alike), ["both"] if way == "joint" else ["source", "target"])


def stepped(method: Method, rows: Batch) -> list[int]:
    """Take a step that moves nothing; give the rows of every pass."""
    seen: list[int] = []
    norm = next(norm for _, norm in batchnorms(method.net.body))
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method.step(rows, Descent(method, Plan(), Fabric(accelerator="cpu", devices=1)))
    hook.remove()
    return seen


@pytest.mark.parametrize("name", ["dann", "gdcan", "mcd"])
def test_every_method_with_two_domains_in_a_step_says_how_they_pass(name):
    assert name in NAMES
    assert all("passes" in defaults(method) for method in BOTH.values())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_statistics_follow_the_passes_that_are_taken(name, way):
    rows = batch()
    method = made(name, way, lr=0.0).train()
    norm = next(norm for _, norm in batchnorms(method.net.body))
    expected, apart = norm.running_mean.clone(), norm.running_mean.clone()
    x = {"source": rows.labeled.x, "target": rows.unlabeled.x}
    x["both"] = torch.cat([x["source"], x["target"]])
    with torch.no_grad():
        means = {key: method.net.body[0](value).mean((0, 2, 3)) for key, value in x.items()}
    taken = passes(name, way)
    sizes = {"source": SOURCE, "target": TARGET, "both": SOURCE + TARGET}
    assert stepped(method, rows) == [sizes[one] for one in taken]
    for one in taken:
        if way == "apart" and one == "source":
            apart = 0.9 * apart + 0.1 * means[one]
        else:
            expected = 0.9 * expected + 0.1 * means[one]
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)
    if way == "apart":
        assert torch.allclose(method.both.kept[0].running_mean, apart, atol=1e-6)
        assert not torch.allclose(apart, expected, atol=1e-2)


OTHERS = [(n, way) for n in NAMES for way in WAYS if way != defaults(METHODS[n])["passes"].default]
"""Ways that are no method's default; `test_methods.py` resumes those."""


@pytest.mark.parametrize(("name", "way"), OTHERS)
def test_two_epochs_resumed_after_one_equal_two_epochs_bit_for_bit(name, way):
    plan, data = Plan(epochs=2, seed=5, layout="channels_last"), TwoDomains(cast=0.5)
    whole, resumed = made(name, way), made(name, way)
    states = [deepcopy(epoch.state) for epoch in fit(whole, data, plan)]
    for _ in fit(resumed, data, plan, state=states[1]):
        pass
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert any("kept" in key for key in whole.state_dict()) == (way == "apart")


@pytest.mark.parametrize("name", NAMES)
def test_after_a_conversion_both_domains_begin_with_its_statistics(name):
    method, data = made(name, "apart", batchnorm="converted").eval(), TwoDomains()
    before = method(data.target)
    method.prepare(data)
    for (_, norm), kept in zip(batchnorms(method.net.body), method.both.kept, strict=True):
        assert torch.equal(norm.running_mean, kept.running_mean)
        assert torch.equal(norm.running_var, kept.running_var)
    assert torch.allclose(method.eval()(data.target), before, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_apart_are_of_all_processes_as_others_are(name):
    method = made(name, "apart")
    known = {id(norm) for _, norm in batchnorms(method)}  # what `average_statistics_` looks at
    assert all(id(one) in known for one in method.both.kept)
