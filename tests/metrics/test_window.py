"""The window over a stream's answers: what it counts, when it calls a collapse, what it keeps."""

from __future__ import annotations

import math

import pytest
import torch

from adaptune.metrics.window import MOST, AnswerWindow, counts_of


def even(count: int, classes: int = 4) -> torch.Tensor:
    return 5 * torch.eye(classes)[torch.arange(count) % classes]


def one(count: int, classes: int = 4) -> torch.Tensor:
    return 5 * torch.eye(classes)[torch.zeros(count, dtype=torch.int64)]


def test_it_tells_share_classes_and_doubt_of_the_last_answers_in_float64():
    torch.manual_seed(0)
    said = torch.randn(50, 4)
    window = AnswerWindow(4, size=16)
    for part in said.split(7):
        window.take(part)
    last = said[-16:].double()
    counts = torch.bincount(last.argmax(1), minlength=4) / 16
    p = last.softmax(1)
    doubt = float(-(p * p.log()).sum(1).mean() / math.log(4))
    assert window.now.answered == 50
    assert window.now.most == int(counts.argmax())
    assert window.now.share == float(counts.max())
    used = [float(c) for c in counts if c > 0]
    assert window.now.classes == pytest.approx(math.exp(-sum(c * math.log(c) for c in used)))
    assert window.now.doubt == pytest.approx(doubt, rel=1e-5)


def test_a_batch_larger_than_the_window_is_its_last_rows():
    torch.manual_seed(1)
    said = torch.randn(40, 4)
    whole, parts = AnswerWindow(4, size=10), AnswerWindow(4, size=10)
    whole.take(said)
    for part in said.split(3):
        parts.take(part)
    assert whole.now.classes == pytest.approx(parts.now.classes)
    assert whole.now.doubt == pytest.approx(parts.now.doubt)


def test_answers_of_one_class_after_many_are_a_collapse_that_can_pass():
    window = AnswerWindow(4, size=20)
    window.take(even(40))
    assert not window.collapsed
    assert window.collapse is None
    for _ in range(10):
        window.take(one(4))
    assert window.collapsed
    assert window.collapse.most == 0
    assert window.collapse.share >= 0.9
    assert 44 < window.collapse.answered <= 60
    window.take(even(20))
    assert not window.collapsed
    assert window.collapsed_rows > 0


def test_where_a_network_that_stays_says_the_same_it_is_no_collapse():
    alone, beside = AnswerWindow(4, size=20), AnswerWindow(4, size=20)
    for said in (even(40), one(40)):
        alone.take(said)
        beside.take(said, said)
    assert alone.collapse is not None
    assert beside.collapse is None
    beside.take(one(40), even(40))
    assert beside.collapsed


def test_before_it_is_full_nothing_is_called_a_collapse():
    window = AnswerWindow(4, size=20)
    window.take(one(19))
    assert not window.collapsed
    assert window.points == []


def test_places_count_by_their_shares():
    y = torch.tensor([[0, 0], [1, 2]])
    logits = torch.eye(3)[y].permute(2, 0, 1)[None]
    assert counts_of(logits).tolist() == [[0.5, 0.25, 0.25]]
    window = AnswerWindow(3, size=2)
    window.take(logits.repeat(2, 1, 1, 1))
    assert window.now.share == 0.5


def test_what_it_keeps_does_not_grow():
    window = AnswerWindow(4, size=4)
    for _ in range(2000):
        window.take(even(4))
    assert len(window.points) <= MOST + 1
    assert window.points[0].answered == 4
    assert window.points[-1].answered > 6000
