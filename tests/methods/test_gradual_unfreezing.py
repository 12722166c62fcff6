"""Gradual unfreezing: what learns when and how fast, and what frozen batch norms do."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.gradual_unfreezing import GradualUnfreezing, unfrozen
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
HEAD, TOP, LOW = {"weight", "bias"}, {"3", "4"}, {"0", "1"}


def stepped(method: GradualUnfreezing, progress: float) -> tuple[set[str], GradualUnfreezing]:
    """Take one step at a point of the run; name the layers that moved, and give what was before."""
    before = deepcopy(method)
    descend = Descent(method, Plan(momentum=0.0), Fabric(accelerator="cpu", devices=1))
    batch = next(iter(domains().batches(method.needs, 0)))
    method.train()
    method.step(replace(batch, progress=progress), descend)
    was = dict(before.net.named_parameters())
    moved = {key for key, one in method.net.named_parameters() if not torch.equal(one, was[key])}
    return {key.split(".")[1] for key in moved}, before


@pytest.mark.parametrize(
    ("progress", "moved"),
    [(0.0, HEAD), (0.24, HEAD), (0.25, HEAD | TOP), (0.49, HEAD | TOP), (0.5, HEAD | TOP | LOW)],
)
def test_one_more_group_moves_from_the_head_down(progress, moved):
    assert stepped(GradualUnfreezing(network(), TASK), progress)[0] == moved


def test_each_group_moves_by_its_gradient_at_a_rate_one_factor_lower_in_float64():
    method = GradualUnfreezing(network().double(), TASK, lr=0.5, factor=3.0, share=0.0).double()
    batch = next(iter(domains().batches(method.needs, 0)))
    object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
    before = deepcopy(method.net)
    logs = before(batch.labeled.x).log_softmax(1)
    loss = -logs[torch.arange(len(logs)), batch.labeled.y].mean()
    params = dict(before.named_parameters())
    slopes = torch.autograd.grad(loss, list(params.values()))
    descend = Descent(method, Plan(momentum=0.0), Fabric(accelerator="cpu", devices=1))
    method.train().step(batch, descend)
    now = dict(method.net.named_parameters())
    for (key, one), slope in zip(params.items(), slopes, strict=True):
        rate = 0.5 if key.startswith("head") else 0.5 / 3 if key[5] in TOP else 0.5 / 9
        torch.testing.assert_close(now[key], one - rate * slope, rtol=1e-10, atol=1e-12)


def test_all_groups_are_unfrozen_by_their_share_of_the_run_and_one_after_the_other():
    for parts in range(1, 15):
        for share in (0.1, 0.3, 0.5, 1.0):
            counts = [unfrozen(step / 1000, parts, share) for step in range(1001)]
            assert counts == sorted(counts)
            assert set(counts) == set(range(1, parts + 1))
            assert counts[round(1000 * share)] == parts


@pytest.mark.parametrize("policy", ["train", "converted"])
def test_frozen_batch_norms_keep_their_statistics_and_unfrozen_ones_follow(policy):
    method = GradualUnfreezing(network(), TASK, batchnorm=policy)
    for progress, follow in ((0.0, []), (0.3, ["4"]), (0.7, ["1", "4"])):
        _, before = stepped(method, progress)
        was = {name: norm.running_mean for name, norm in batchnorms(before.net.body)}
        norms = dict(batchnorms(method.net.body))
        assert [key for key in norms if not torch.equal(norms[key].running_mean, was[key])] == (
            follow
        )
        assert [key for key, norm in norms.items() if norm.training] == follow


def test_frozen_batch_norms_normalise_by_their_running_statistics():
    method = GradualUnfreezing(network(), TASK, batchnorm="train")
    _, before = stepped(method, 0.0)
    x = next(iter(domains().scan("test"))).x
    torch.testing.assert_close(method.net.body(x), before.eval().net.body(x))


def test_by_default_no_batch_norm_follows():
    _, before = stepped(method := GradualUnfreezing(network(), TASK), 1.0)
    for (_, norm), (_, was) in zip(batchnorms(method), batchnorms(before), strict=True):
        assert torch.equal(norm.running_mean, was.running_mean)


@pytest.mark.parametrize("policy", ["train", "eval", "converted"])
def test_without_freezing_and_at_one_rate_it_is_fine_tuning_to_the_bit(policy):
    ours = GradualUnfreezing(network(), TASK, lr=0.03, factor=1, share=0, batchnorm=policy)
    theirs = FineTune(network(), TASK, lr=0.03, batchnorm=policy)
    for method in (ours, theirs):
        for _ in fit(method, domains(), Plan(epochs=2)):
            pass
    wanted = theirs.net.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in ours.net.state_dict().items())


def test_a_run_that_pauses_between_two_groups_goes_on_to_the_bit():
    def ended(**how) -> dict[str, torch.Tensor]:
        method = GradualUnfreezing(network(), TASK, batchnorm="train")
        for _ in fit(method, domains(), plan, **how):
            pass
        return method.state_dict()

    plan = Plan(epochs=2, layout="contiguous")
    paused = fit(
        GradualUnfreezing(network(), TASK, batchnorm="train"), domains(), plan, pause=lambda: True
    )
    states = [deepcopy(epoch.state) for epoch in paused]
    at = [one["progress"] for one in states]
    whole = ended()
    middle = next(number for number, one in enumerate(at) if (one["epoch"], one["step"]) == (0, 3))
    for state in states[middle : middle + 2]:
        resumed = ended(state=state)
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_what_is_unfrozen_together_is_told():
    notes = GradualUnfreezing(network(), TASK).prepare(domains())
    assert notes == {"groups": ["head", "3 to 4", "0 to 1"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factor": 0.5}, "from 1 up"),
        ({"factor": float("inf")}, "from 1 up"),
        ({"share": -0.1}, "from 0 to 1"),
        ({"share": float("nan")}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        GradualUnfreezing(network(), TASK, **options)
