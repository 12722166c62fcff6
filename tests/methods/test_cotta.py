"""CoTTA: a teacher answers and follows; some weights are put back."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from streams import TASK, answers, batch_of, gain, noisy, rows_of
from toy import trained

from adaptune.engine.plan import Plan
from adaptune.methods.test_time import cotta
from adaptune.methods.test_time.cotta import CoTTA


@pytest.fixture
def net():
    return trained(lr=0.1, epochs=8)


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_the_term_and_the_answer_are_the_formula_in_float64(net, sure, monkeypatch):
    scales = iter([0.5, 1.0, 2.0])
    monkeypatch.setattr(cotta, "random_view", lambda x: next(scales) * x)
    method = CoTTA(net.double(), TASK, sure=sure, views=3).double().eval()
    for one in method.teacher.parameters():
        one.mul_(1.1)
    x = noisy(12)[0].double()
    found = method.objective(batch_of(x))
    seen = [0.5, 1.0, 2.0] if sure else [1.0]
    q = sum(method(scale * x).softmax(1) for scale in seen) / len(seen)
    torch.testing.assert_close(found.logits.exp(), q)
    with cotta.mixed_statistics(0.0):
        p = method.net(x).softmax(1).detach()
    wanted = -sum(float(a * b.log()) for a, b in zip(q.flatten(), p.flatten(), strict=True)) / 12
    assert float(found.total.detach()) == pytest.approx(wanted)
    assert not found.logits.requires_grad


def test_the_teacher_follows_and_some_weights_become_what_they_were(net):
    method = CoTTA(net, TASK, decay=0.9, restore=0.3)
    torch.manual_seed(0)
    for own in method.net.parameters():
        own.data.add_(1.0)
    moved = deepcopy(method.net)
    method.follow()
    back = total = 0
    parts = (method.teacher, method.beginning, moved, method.net)
    for mean, was, new, own in zip(*(one.parameters() for one in parts), strict=True):
        torch.testing.assert_close(mean, 0.9 * was + 0.1 * new)
        assert bool(((own == was) | (own == new)).all())
        back, total = back + int((own == was).sum()), total + own.numel()
    assert abs(back / total - 0.3) < 0.05


def test_at_1_every_weight_is_put_back_and_at_0_none(net):
    x, _ = noisy(32)
    for restore, same in ((1.0, True), (0.0, False)):
        method = CoTTA(deepcopy(net), TASK, restore=restore, views=2)
        answers(method, rows_of(x, 16))
        pairs = zip(method.net.parameters(), net.parameters(), strict=True)
        assert all(own.equal(was) for own, was in pairs) == same


def test_running_statistics_stay_and_the_batch_normalises_all_three(net):
    method = CoTTA(net, TASK, views=2)
    before = deepcopy(method.state_dict())
    answers(method, rows_of(noisy(32)[0], 16))
    for key, value in method.state_dict().items():
        if "running" in key or key.startswith("beginning") or "tracked" in key:
            assert value.equal(before[key]), key
    x = noisy(16)[0]
    assert not torch.allclose(method(x)[:8], method(x[:8]), atol=1e-3)


def test_it_is_right_more_often_than_the_network_that_it_began_as(net):
    assert gain(CoTTA(deepcopy(net), TASK, sure=0.5), net) > 15


def test_what_is_drawn_is_the_seed_s(net):
    x, _ = noisy(32)
    found = [
        answers(CoTTA(deepcopy(net), TASK, views=2), rows_of(x, 16), Plan(seed=s))
        for s in (0, 0, 1)
    ]
    assert found[0].equal(found[1])
    assert not found[0].equal(found[2])


def test_what_cannot_be_is_refused(net):
    with pytest.raises(ValueError, match="decay is a share below 1"):
        CoTTA(net, TASK, views=0)
