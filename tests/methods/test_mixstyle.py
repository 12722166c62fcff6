"""MixStyle: its mix by the formula, what it draws, and what it leaves alone."""

from __future__ import annotations

import lit
import pytest
import torch
import torch.nn.functional as F
from lit import unseen
from toy import CLASSES, TwoDomains, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.mixstyle import MixStyle
from adaptune.methods.supervised.ft import FineTune
from adaptune.ops.mixing import drawn_partners, row_draws
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES), domains=2)


def batch():
    rows = next(iter(TwoDomains(sources=2).batches(MixStyle.needs, 0)))
    object.__setattr__(rows.labeled, "x", rows.labeled.x.double())
    return rows


def test_a_step_is_the_formula_in_float64():
    method, rows = MixStyle(network(), TASK, chance=1.0, pairs="domains").double().eval(), batch()
    assert method.places == [("1", 8)]
    torch.manual_seed(7)
    found = method.objective(rows).terms["task"]
    torch.manual_seed(7)
    torch.rand(1)
    own, body = rows.labeled, method.net.body
    partner = drawn_partners(own.index, other=own.domain)
    share = row_draws(own.index, 1, method.shares).double()
    assert (own.domain[partner] != own.domain).all()
    maps, mixed = body[:2](own.x), []
    for row, other in enumerate(partner):
        a, b, part = maps[row], maps[other], share[row]
        new = torch.empty_like(a)
        for channel in range(8):
            m, n = a[channel].mean(), b[channel].mean()
            s = ((a[channel] - m).square().mean() + 1e-5).sqrt()
            t = ((b[channel] - n).square().mean() + 1e-5).sqrt()
            plain = (a[channel] - m) / s
            new[channel] = plain * (part * s + (1 - part) * t) + part * m + (1 - part) * n
        mixed.append(new)
    wanted = F.cross_entropy(method.net.head(body[2:](torch.stack(mixed))), own.y)
    assert found.item() == pytest.approx(wanted.item())


def test_without_chance_it_is_fine_tuning_and_predictions_mix_nothing():
    ours, plain = MixStyle(network(), TASK, chance=0.0), FineTune(network(), TASK)
    for one in (ours, plain):
        for _ in fit(one, TwoDomains(sources=2), Plan(epochs=1)):
            pass
    for key, value in plain.state_dict().items():
        assert torch.equal(value, ours.state_dict()[key])
    x = TwoDomains().x
    assert torch.equal(ours(x), ours.net(x))


def test_no_gradient_goes_through_styles():
    method, rows = MixStyle(network(), TASK).double(), batch().labeled
    maps = torch.randn(len(rows), 8, 4, 4).double().requires_grad_()
    method.chance = 1.0
    out = method.mixed(8, rows.index, None, maps)
    scale = (out / maps).detach()
    [slope] = torch.autograd.grad(out.sum(), maps)
    assert torch.allclose(slope.std((2, 3)), torch.zeros(24, 8).double(), atol=1e-9)
    assert scale.shape == slope.shape


def test_running_statistics_behind_a_mix_follow_it_and_those_before_do_not():
    rows, found = batch(), []
    for chance in (0.0, 1.0):
        method = MixStyle(network(), TASK, chance=chance, alpha=0.5, pairs="domains").double()
        torch.manual_seed(1)
        method.train().objective(rows)
        found.append([method.net.body[at].running_mean.clone() for at in (1, 4)])
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_digits_in_a_light_that_no_source_has_are_read_better_than_without():
    def mean(**options) -> float:
        task = Classification(10, domains=2)
        scores = [
            unseen(MixStyle(lit.network(seed), task, **options), epochs=8, seed=seed)
            for seed in range(2)
        ]
        return sum(scores) / 2

    assert mean(pairs="domains") > mean(chance=0.0) + 5


@pytest.mark.parametrize(
    ("options", "said"),
    [({"stages": 0}, "stages is 1 or more"), ({"chance": 2.0}, "from 0 to 1")],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        MixStyle(network(), TASK, **options)
    with pytest.raises(ValueError, match="two labelled domains"):
        MixStyle(network(), Classification(3), pairs="domains")
