"""EATA: reliable predictions that say something new go down; what matters is held."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy

import pytest
import torch
from streams import TASK, answers, batch_of, gain, noisy, rows_of
from toy import trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.optimizers import trainable
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods.test_time import eata
from adaptune.methods.test_time.eata import EATA


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


def test_the_terms_are_the_formula_in_float64(net):
    method = EATA(net.double(), TASK, reliable=0.6, apart=1.2, hold=3.0).double().eval()
    x = noisy(30)[0].double()
    torch.manual_seed(0)
    method.fisher.copy_(torch.rand_like(method.fisher))
    method.average.copy_(torch.tensor([0.5, 0.2, 0.3]))
    for one in trainable(method.net):
        one.data.add_(0.1 * torch.randn_like(one))
    with torch.no_grad():
        found = method.objective(batch_of(x))
    margin, total, count = 0.6 * math.log(3), 0.0, 0
    for row in found.logits:
        p = row.softmax(0)
        doubt = float(-(p * p.log()).sum())
        cosine = float(p @ method.average / (p.norm() * method.average.norm()))
        if doubt < margin and abs(cosine) < 1.2 / math.sqrt(3):
            total += doubt / math.exp(doubt - margin)
            count += 1
    assert 3 < count < 27
    assert float(found.terms["entropy"]) == pytest.approx(total / count)
    moved = torch.cat([one.detach().flatten() for one in trainable(method.net)])
    hold = 3 * sum(
        f * (a - b) ** 2 for f, a, b in zip(method.fisher, moved, method.start, strict=True)
    )
    assert float(found.terms["hold"]) == pytest.approx(float(hold))


def test_the_fisher_information_is_the_mean_squared_gradient_of_each_image(net, monkeypatch):
    method = EATA(net.double(), TASK).double().eval()
    x = noisy(4)[0].double()
    logits = method(x)
    picked = logits.log_softmax(1).gather(1, logits.argmax(1)[:, None]).squeeze(1)
    wanted = torch.zeros_like(method.fisher)
    for one in picked:
        slopes = torch.autograd.grad(-one, trainable(method.net), retain_graph=True)
        wanted += torch.cat([slope.flatten() for slope in slopes]).square() / 4
    for bits in itertools.product([0, 1], repeat=4):  # every draw of signs as often: the mean
        monkeypatch.setattr(eata.torch, "randint", lambda *_, b=bits, **__: torch.tensor(b))
        method.measure(x)
    torch.testing.assert_close(method.fisher, wanted)
    assert int(method.measured) == 64


def test_the_first_images_alone_are_measured_or_those_that_were_given(net):
    x, _ = noisy(40)
    method = EATA(deepcopy(net), TASK, samples=16)
    after = [method.fisher.clone() for _ in stream(method, rows_of(x, 10), Plan())]
    assert not after[0].equal(after[1])
    assert after[1].equal(after[3])
    told = EATA(net, TASK, samples=16)
    told.measure(x[:20])
    known = told.fisher.clone()
    answers(told, rows_of(x, 10))
    assert known.equal(told.fisher)


def test_the_average_is_that_of_what_counted(net):
    x, _ = noisy(20)
    method = EATA(net, TASK, reliable=0.9, apart=5.0)
    first, second = (one.logits for one in stream(method, rows_of(torch.cat([x, x]), 20), Plan()))
    sure = [
        one.softmax(1)[-(one.softmax(1) * one.log_softmax(1)).sum(1) < 0.9 * math.log(3)]
        for one in (first, second)
    ]
    torch.testing.assert_close(method.average, 0.9 * sure[0].mean(0) + 0.1 * sure[1].mean(0))


def test_weights_and_biases_of_batch_norms_alone_move(net):
    method = EATA(net, TASK, lr=0.01)
    before = deepcopy(method.net.state_dict())
    answers(method, rows_of(noisy(64)[0], 16))
    moved = {key for key, value in method.net.state_dict().items() if not value.equal(before[key])}
    norms = [name for name, _ in batchnorms(method.net)]
    assert moved == {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}


def test_the_more_is_held_the_less_moves(net):
    def way(hold: float) -> float:
        method = EATA(deepcopy(net), TASK, lr=0.001, hold=hold, reliable=1.0, apart=5.0)
        answers(method, rows_of(noisy(128)[0], 16))
        moved = torch.cat([one.detach().flatten() for one in trainable(method.net)])
        return float((method.fisher * (moved - method.start).square()).sum())

    assert way(3000.0) < 0.8 * way(0.0)


def test_where_nothing_counts_nothing_moves(net):
    method = EATA(net, TASK, reliable=1e-6)
    before = method.start.clone()
    answers(method, rows_of(noisy(32)[0], 16))
    assert torch.cat([one.detach().flatten() for one in trainable(method.net)]).equal(before)
    assert not method.average.any()


def test_it_is_right_more_often_than_the_network_that_it_began_as(net):
    assert gain(EATA(deepcopy(net), TASK), net) > 20
