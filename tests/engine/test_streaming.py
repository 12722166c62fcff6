"""Streams: every batch is answered, whatever its size, and episodes leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from toy import CLASSES, images, tinted, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.method import Method
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods.test_time.alpha_bn import AlphaBN
from adaptune.methods.test_time.tent import Tent
from adaptune.tasks.classification import Classification
from adaptune.types import Unlabeled

TASK = Classification(len(CLASSES))
X = tinted(images(50, seed=31).tensors[0], 1.0)


@pytest.fixture(scope="module")
def net():
    return trained(lr=0.1, epochs=8)


def rows_of(x: torch.Tensor, size: int) -> list[Unlabeled]:
    parts = torch.arange(len(x)).split(size)
    return [Unlabeled(x[part], torch.zeros_like(part), part) for part in parts]


def tent(net) -> Method:
    return Tent(deepcopy(net), TASK, lr=0.05)


def core(net) -> Method:
    return AlphaBN(deepcopy(net), TASK, alpha=0.5, core=True, lr=0.05)


def alpha(net) -> Method:
    return AlphaBN(deepcopy(net), TASK, alpha=0.5)


@pytest.mark.parametrize("made", [tent, core, alpha])
@pytest.mark.parametrize("size", [1, 7, 16, 50])
def test_batches_of_any_size_are_answered_in_order_the_last_with_what_is_left(net, made, size):
    answers = list(stream(made(net), rows_of(X, size), Plan()))
    assert torch.equal(torch.cat([one.index for one in answers]), torch.arange(50))
    logits = torch.cat([one.logits for one in answers])
    assert logits.shape == (50, 3)
    assert logits.isfinite().all()
    assert not logits.requires_grad


@pytest.mark.parametrize("made", [tent, core, alpha])
def test_an_episodes_answer_is_as_if_its_batch_were_the_first_to_the_bit(net, made):
    method = made(net)
    before = deepcopy(method.state_dict())
    for rows, answer in zip(
        rows_of(X, 16), stream(method, rows_of(X, 16), Plan(), episodic=True), strict=True
    ):
        (first,) = stream(made(net), [rows], Plan())
        assert torch.equal(answer.logits, first.logits)
        for key, value in method.state_dict().items():
            assert torch.equal(value, before[key]), key


def test_an_episode_forgets_momentum_too(net):
    rows = rows_of(X, 25)[0]
    answers = list(stream(tent(net), [rows] * 4, Plan(momentum=0.9), episodic=True))
    assert all(torch.equal(one.logits, answers[0].logits) for one in answers)


def test_otherwise_the_same_batch_is_answered_otherwise_each_time(net):
    rows = rows_of(X, 25)[0]
    first, second, third = (one.logits for one in stream(tent(net), [rows] * 3, Plan()))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_rates_stay_the_full_ones_whatever_the_plan_says_of_epochs_and_warm_up(net):
    def answers(plan: Plan) -> torch.Tensor:
        return torch.cat([one.logits for one in stream(tent(net), rows_of(X, 10), plan)])

    assert torch.equal(answers(Plan()), answers(Plan(epochs=1, warmup=0.5)))


def test_without_momentum_a_step_is_the_rate_times_the_gradient(net):
    method, rows = tent(net), rows_of(X, 50)
    (norm, *_) = [one for _, one in batchnorms(method)]
    before = norm.bias.detach().clone()
    list(stream(method, rows, Plan(momentum=0.0)))
    assert torch.allclose(norm.bias, before - 0.05 * norm.bias.grad)


def test_a_batch_is_asked_for_when_the_one_before_it_is_answered(net):
    asked: list[int] = []

    def coming() -> Iterator[Unlabeled]:
        for number, rows in enumerate(rows_of(X, 10)):
            asked.append(number)
            yield rows

    answers = stream(tent(net), coming(), Plan())
    assert asked == []
    next(answers)
    assert asked == [0]
    next(answers)
    assert asked == [0, 1]


def test_a_stream_that_is_left_gives_the_mode_back_and_keeps_what_was_learnt(net):
    method = tent(net).train()
    before = deepcopy(method.state_dict())
    answers = stream(method, rows_of(X, 10), Plan())
    next(answers)
    assert not method.training
    answers.close()
    assert method.training
    assert any(not value.equal(before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize("episodic", [False, True])
def test_what_is_not_finite_stops_the_stream_by_name(net, episodic):
    rows = rows_of(X.clone(), 10)
    rows[2].x[3] = torch.nan
    method = tent(net)
    answers = stream(method, rows, Plan(), episodic=episodic)
    next(answers), next(answers)
    with pytest.raises(NonFiniteError) as found:
        next(answers)
    assert found.value.rows == (23,)
    assert all(bool(one.isfinite().all()) for one in method.state_dict().values())


def test_or_its_step_is_left_out_and_the_rest_is_answered(net):
    rows = rows_of(X.clone(), 10)
    rows[2].x[3] = torch.nan
    plan = Plan(on_nonfinite="skip")
    answers = list(stream(tent(net), rows, plan))
    others = [one for one in rows if one is not rows[2]]
    without = list(stream(tent(net), others, replace(plan)))
    for one, same in zip([*answers[:2], *answers[3:]], without, strict=True):
        assert torch.equal(one.logits, same.logits)
    assert len(answers[2].logits) == 10
