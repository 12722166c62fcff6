"""Tallies of classes: what counts with its interval, open sets, the surest mistakes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.metrics.class_scores import (
    BY_RANK,
    ClassScore,
    OddsHistogram,
    balanced_accuracy,
    macro_f1,
)
from adaptune.metrics.column import Column
from adaptune.metrics.shares import wilson
from adaptune.metrics.tally import Mistake
from adaptune.ops.rows import need_rows
from adaptune.results.images import pack
from adaptune.results.score import Score, Scores
from adaptune.runtime.devices import exact
from adaptune.runtime.processes import add_up, gather
from adaptune.types import Outputs

WORST = 12
"""Mistakes that are kept."""


class ClassTally:
    """Counts what was taken for what: accuracy in percent, the mean cross-entropy, open sets.

    Args:
        classes: How many classes there are.
        unknown: Whether a further, last output and label mean that a row is of none of them.
        score: What counts instead of accuracy.
        threshold: Of ``hter``: the log-odds from which on the second class is said; by default
            those at which the set's own error rates are equal.

    The detail of its scores is ``confusion``, one row a true class and one column a predicted one,
    in counts; where accuracy counts, ``right``, which rows are, see `pack`; with ``unknown`` also
    ``open_set``, see `open_set`; of ``hter`` the ``threshold`` and whether it is the set's ``own``.
    Beside that it keeps of each row a loss, an index and whether it is right, 13 bytes, so that the
    mean is the same for any batches and processes; of scores of ranks also an `OddsHistogram`.
    """

    def __init__(
        self,
        classes: int,
        *,
        unknown: bool = False,
        score: ClassScore = "accuracy",
        threshold: float | None = None,
    ) -> None:
        self.classes, self.unknown, self.columns = classes, unknown, classes + unknown
        self.score, self.threshold = score, threshold
        self.odds = OddsHistogram(self.columns) if score in BY_RANK else None
        self.confusion = torch.zeros(self.columns, self.columns, dtype=torch.int64)
        self.losses, self.index, self.right = Column(), Column(torch.int64), Column(torch.bool)
        self.worst = torch.empty(0, 5, dtype=torch.float64)

    def add(self, outputs: Outputs) -> None:
        """Count one batch.

        Raises:
            ValueError: If the outputs are not one prediction a row, or not as many as the task's.
        """
        need_rows(outputs.logits, "a score of classes")
        logits, y = exact(outputs.logits).float(), exact(outputs.y)
        if logits.shape[1] != self.columns:
            raise ValueError(
                f"a task of {self.classes} classes{' and unknown' * self.unknown} has "
                f"{self.columns} outputs and got {logits.shape[1]}: evaluate a method that "
                "predicts them"
            )
        self.losses.add(F.cross_entropy(logits, y, reduction="none"))
        self.index.add(outputs.index)
        guess = logits.argmax(1)
        self.right.add(guess == y)
        self.confusion = self.confusion.to(logits.device)
        self.confusion.index_put_((y, guess), torch.ones_like(y), accumulate=True)
        self._remember(logits, y, outputs.index)
        if self.odds is not None:
            self.odds.add(logits, y)

    def _remember(self, logits: Tensor, y: Tensor, index: Tensor) -> None:
        """Keep the surest mistakes; of equally sure ones the first rows."""
        sure, guess = logits.softmax(1).max(1)
        confidence = logits[:, : self.classes].softmax(1).amax(1)
        sure = torch.where(guess != y, sure, -1.0)
        columns = [sure, index.to(sure.device), y, guess, confidence]
        self._choose(torch.stack([one.double() for one in columns], 1))

    def _choose(self, more: Tensor) -> None:
        every = torch.cat([self.worst.to(more.device), more])
        every = every[every[:, 1].argsort(stable=True)]
        order = every[:, 0].argsort(descending=True, stable=True)
        self.worst = every[order[:WORST]]

    def merge(self) -> None:
        """Add up what all processes counted."""
        self.confusion = add_up(self.confusion)
        for column in (self.losses, self.index, self.right):
            column.replace(gather(column.values()))
        worst = gather(self.worst)
        self.worst = self.worst[:0]
        self._choose(worst)
        if self.odds is not None:
            self.odds.merge()

    def scores(self) -> Scores:
        """Score the set.

        Raises:
            ValueError: If it had no row.
        """
        losses = self.losses.values().cpu()
        count = len(losses)
        if count == 0:
            raise ValueError(
                "no example could be scored: the set is empty, or no file could be read"
            )
        confusion = self.confusion.cpu()
        opened = open_set(confusion) if self.unknown else {}
        order = self.index.values().argsort(stable=True)
        right = self.right.values().cpu()[order]
        main, detail = self._main(confusion, count)
        detail = {
            "confusion": tuple(tuple(row.tolist()) for row in confusion),
            **({"right": pack(right.numpy())} if self.score == "accuracy" else {}),
            **({"open_set": opened} if opened else {}),
            **detail,
        }
        return Scores(main, mean_loss(losses[order]), count, detail)

    def _main(self, confusion: Tensor, count: int) -> tuple[Score, dict[str, Any]]:
        """Give what counts, and what there is to say of it."""
        if self.odds is not None and self.score == "hter":
            told = self.odds.threshold() if self.threshold is None else self.threshold
            detail = {"threshold": told, "own": self.threshold is None}
            return self.odds.hter(told), detail
        if self.odds is not None:
            return self.odds.auc(), {}
        if self.score == "balanced-accuracy":
            return balanced_accuracy(confusion), {}
        if self.score == "macro-f1":
            return macro_f1(confusion), {}
        return accuracy(int(confusion.diagonal().sum()), count), {}

    def mistakes(self) -> list[Mistake]:
        """Give the rows that were most surely wrong, the surest first."""
        return [
            Mistake(int(row), truth, answer, confidence)
            for sure, row, truth, answer, confidence in self.worst.tolist()
            if sure >= 0
        ]


def accuracy(right: int, count: int) -> Score:
    """Give an accuracy in percent, with Wilson's interval.

    >>> accuracy(1, 2).value
    50.0
    """
    low, high = wilson(right, count)
    value = 100 * right / count
    error = math.sqrt(value * (100 - value) / count)
    return Score("accuracy", value, 100 * low, 100 * high, error)


def mean_loss(losses: Tensor) -> float:
    """Give the mean of losses (N,) as the loss of all rows at once adds them up, to the bit.

    >>> mean_loss(torch.tensor([1.0, 3.0]))
    2.0
    """
    none = torch.zeros(len(losses), dtype=torch.int64)
    return float(F.nll_loss(-losses.unsqueeze(1), none))


def open_set(confusion: Tensor) -> dict[str, float]:
    """Score a confusion matrix (K + 1, K + 1) whose last row and column are unknown, in percent.

    ``known`` is the mean of the accuracies of known classes that are there (OS*), ``unknown`` the
    accuracy on unknown rows, ``h`` their harmonic mean; nothing where one is not defined. Source:
    the H-score of Fu et al., 2020.

    >>> open_set(torch.tensor([[3, 0, 1], [0, 4, 0], [1, 2, 1]]))
    {'known': 87.5, 'unknown': 25.0, 'h': 38.888888888888886}
    """
    rows = confusion.sum(1)
    if not (rows[-1] and rows[:-1].any()):
        return {}
    right = 100 * confusion.diagonal().double() / rows
    known, unknown = float(right[:-1][rows[:-1] > 0].mean()), float(right[-1])
    h = 2 * known * unknown / (known + unknown) if known + unknown else 0.0
    return {"known": known, "unknown": unknown, "h": h}
