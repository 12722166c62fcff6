"""SAR: a climb before each step, reliable images alone, and a new beginning on a collapse."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from streams import TASK, answers, batch_of, gain, noisy, rows_of
from torch import nn
from toy import trained

from adaptune.batchnorm.layers import batchnorms, train_norms_only
from adaptune.engine.optimizers import trainable
from adaptune.engine.plan import Plan
from adaptune.methods.test_time.sar import SAR
from adaptune.networks.network import Network


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def test_a_step_is_the_paper_s_in_float64(net):
    x = noisy(24)[0].double()
    method = SAR(net.double(), TASK, lr=0.01, radius=0.1, reliable=0.6).double().eval()
    twin = deepcopy(method)
    moved = trainable(twin.net)

    def doubts() -> torch.Tensor:
        p = twin(x).softmax(1)
        return -(p * p.log()).sum(1)

    sure = doubts().detach() < 0.6 * math.log(3)
    assert 2 < int(sure.sum()) < 22
    slopes = torch.autograd.grad(doubts()[sure].mean(), moved)
    norm = torch.sqrt(sum(one.square().sum() for one in slopes))
    before = [one.detach().clone() for one in moved]
    for one, slope in zip(moved, slopes, strict=True):
        one.data.add_(0.1 * slope / norm)
    after = doubts()[sure].mean()
    steps = torch.autograd.grad(after, moved)
    answers(method, rows_of(x, 24), Plan(momentum=0.0, layout="contiguous"))
    for one, was, step in zip(trainable(method.net), before, steps, strict=True):
        torch.testing.assert_close(one.detach(), was - 0.01 * step)
    assert float(method.average) == pytest.approx(float(after.detach()))


def test_the_term_is_the_mean_entropy_of_reliable_images(net):
    method = SAR(net, TASK, reliable=0.6).eval()
    found = method.objective(batch_of(noisy(30)[0]))
    p = found.logits.detach().double().softmax(1)
    doubts = -(p * p.log()).sum(1)
    wanted = float(doubts[doubts < 0.6 * math.log(3)].mean())
    assert float(found.total.detach()) == pytest.approx(wanted, rel=1e-5)


def test_a_collapse_puts_weights_back_and_begins_the_average_anew(net):
    x, _ = noisy(64)
    method = SAR(deepcopy(net), TASK, lr=0.1, reliable=1.0, collapse=1.0)
    answers(method, rows_of(x, 16))
    assert int(method.resets) == 4
    assert method.average.isnan()
    assert torch.cat([one.detach().flatten() for one in trainable(method.net)]).equal(method.start)
    free = SAR(deepcopy(net), TASK, lr=0.1, reliable=1.0, collapse=0.0)
    answers(free, rows_of(x, 16))
    assert int(free.resets) == 0


def test_weights_and_biases_of_batch_norms_alone_move_and_statistics_stay(net):
    method = SAR(net, TASK, lr=0.01, collapse=0.0)
    before = deepcopy(method.net.state_dict())
    answers(method, rows_of(noisy(64)[0], 16))
    moved = {key for key, value in method.net.state_dict().items() if not value.equal(before[key])}
    norms = [name for name, _ in batchnorms(method.net)]
    assert moved == {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}


def test_networks_of_other_norms_adapt_too_but_for_their_last_fifth():
    layers = [
        nn.Linear(4, 4),
        *(nn.LayerNorm(4) for _ in range(4)),
        nn.LayerNorm(4),
        nn.Linear(4, 2),
    ]
    model = nn.Sequential(*layers)
    train_norms_only(model, without=0.2)
    learns = [all(p.requires_grad for p in one.parameters()) for one in model]
    assert learns == [False, True, True, True, True, False, False]
    with pytest.raises(ValueError, match="has none with weights"):
        train_norms_only(nn.Sequential(nn.Linear(2, 2)))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    net = Network.from_module(plain, head="3", classes=("a", "b", "c"))
    method = SAR(net, TASK, lr=0.1, reliable=1.0)
    answers(method, rows_of(noisy(16)[0], 1))
    assert not torch.cat([one.detach().flatten() for one in trainable(net)]).equal(method.start)


def test_it_is_right_more_often_than_the_network_that_it_began_as(net):
    assert gain(SAR(deepcopy(net), TASK), net) > 20
