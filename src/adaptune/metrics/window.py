"""The last answers of a stream: how many classes they are of, and how sure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.information import entropy
from adaptune.ops.rows import rows

FEW = 0.25
"""Answers have collapsed where they have this share of the further classes that they should."""

MOST = 64
"""The most points that are kept of a stream's course."""


@dataclass(frozen=True)
class Spell:
    """What the last answers were, after ``answered`` rows in all.

    ``share`` of them were of the class ``most``; their classes were as many as ``classes`` even
    ones, the exponential of the entropy of their counts; ``doubt`` is the mean entropy of
    predictions as a share of the largest, ln K.
    """

    answered: int
    most: int
    share: float
    classes: float
    doubt: float


class AnswerWindow:
    """Watches the last ``size`` answers of a stream, in memory that does not grow.

    Answers have collapsed where, of a full window, the `classes` beyond the first are fewer than
    `FEW` of those that a network that stays has in the same window, or, where none is asked, that
    the first full window had. A stream in which one class comes after another reads the same where
    no network stays beside it. That rule is ours. Of places each row counts by their shares.

    >>> window = AnswerWindow(3, size=6)
    >>> window.take(torch.eye(3).repeat(2, 1))
    >>> window.take(torch.eye(3)[:1].repeat(6, 1))
    >>> window.now.share, window.collapsed, window.collapse.answered
    (1.0, True, 12)
    """

    def __init__(self, classes: int, size: int = 200) -> None:
        if size < 1:
            raise ValueError(f"a window holds at least one answer: got {size}")
        self.size = size
        self.own, self.beside = (torch.zeros(size, classes) for _ in range(2))
        self.doubts = torch.zeros(size)
        self.answered, self.asked = 0, 0
        self.first = math.nan
        self.points: list[Spell] = []
        self.stride = size
        self.collapse: Spell | None = None
        self.collapsed_rows = 0

    @torch.no_grad()
    def take(self, logits: Tensor, beside: Tensor | None = None) -> None:
        """Take the answers to a batch (N, K, ...), and those of a network that stays."""
        unsure = entropy(logits.float())
        doubt = unsure.flatten(1).mean(1) if unsure.dim() > 1 else unsure
        shares, other = counts_of(logits), None if beside is None else counts_of(beside)
        at = torch.arange(self.answered, self.answered + len(shares))[-self.size :] % self.size
        self.own[at] = shares[-self.size :]
        self.doubts[at] = doubt.cpu()[-self.size :] / math.log(shares.shape[1])
        if other is not None:
            self.beside[at] = other[-self.size :]
        self.answered += len(shares)
        self.asked = 0 if other is None else self.asked + len(shares)
        if self.answered < self.size:
            return
        now = self.now
        self.first = now.classes if math.isnan(self.first) else self.first
        if self._is_few(now):
            self.collapsed_rows += len(shares)
            self.collapse = self.collapse or now
        if not self.points or self.answered >= self.points[-1].answered + self.stride:
            self.points.append(now)
        if len(self.points) > MOST:
            self.points, self.stride = self.points[::2], 2 * self.stride

    @property
    def now(self) -> Spell:
        """What the last answers are."""
        count = min(self.answered, self.size)
        shares = self.own[:count].mean(0)
        most = int(shares.argmax())
        return Spell(
            self.answered,
            most,
            float(shares[most]),
            effective(shares),
            float(self.doubts[:count].mean()),
        )

    @property
    def expected(self) -> float:
        """As many even classes as the window should have; not a number before it is full."""
        return effective(self.beside.mean(0)) if self.asked >= self.size else self.first

    @property
    def collapsed(self) -> bool:
        """Whether the last answers are of few classes."""
        return self._is_few(self.now)

    def _is_few(self, spell: Spell) -> bool:
        return spell.classes - 1 < FEW * (self.expected - 1)


def counts_of(logits: Tensor) -> Tensor:
    """Give which class each prediction (N, K, ...) is of, or the shares of its places: (N, K).

    >>> counts_of(torch.tensor([[0.0, 1.0]])), counts_of(torch.eye(2)[None]).tolist()
    (tensor([[0., 1.]]), [[0.5, 0.5]])
    """
    classes = logits.shape[1]
    if logits.dim() == 2:
        return F.one_hot(logits.argmax(1), classes).float().cpu()
    counts = [torch.bincount(rows(one[None]).argmax(1), minlength=classes) for one in logits]
    found = torch.stack(counts).float().cpu()
    return found / found.sum(1, keepdim=True)


def effective(shares: Tensor) -> float:
    """Say of how many even classes shares (K,) are as various: the exponential of their entropy.

    >>> effective(torch.tensor([0.5, 0.5, 0.0])), effective(torch.tensor([1.0, 0.0]))
    (2.0, 1.0)
    """
    return round(float(torch.special.entr(shares.double()).sum().exp()), 9)
