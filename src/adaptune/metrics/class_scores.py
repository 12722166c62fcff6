"""Scores of classes beside accuracy: every class counts alike, or every threshold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptune.metrics.shares import wilson
from adaptune.results.score import Score
from adaptune.runtime.processes import add_up

ClassScore = Literal["accuracy", "balanced-accuracy", "macro-f1", "auc", "hter"]
"""What counts of classes.

- ``accuracy``: the share of rows that are right.
- ``balanced-accuracy``: the mean over classes of the share of their rows that are right.
- ``macro-f1``: the mean over classes of F1.
- ``auc``: the area under the curve of true over false positives; of more than two classes the mean
  over classes, each against the rest.
- ``hter``: the mean of both classes' error rates, of two classes alone; lower is better.
"""

BY_RANK = ("auc", "hter")
"""Scores that read how sure predictions are."""

BINS = 4096
"""Bins of log-odds."""

REACH = 10.0
"""The inverse hyperbolic sine of the largest log-odds that are told apart, 11013."""

DRAWS = 1000
"""Sets that are drawn for an interval."""

AT_ONCE = 2**22
"""Numbers of drawn sets that are held at a time."""


class OddsHistogram:
    """Counts rows by class and log-odds in bins, for scores of ranks: ``16 K BINS`` bytes.

    Log-odds of class k are ``z_k - log sum_{j != k} exp(z_j)``. Bins are even in their inverse
    hyperbolic sine: 0.005 wide about 0, and half a hundredth of the log-odds where these are large.
    Of two classes those of the second are counted alone, since the first's are their negatives.

    >>> found = OddsHistogram(2)
    >>> found.add(torch.tensor([[0.0, -3.0], [0.0, 3.0]]), torch.tensor([0, 1]))
    >>> found.auc().value, found.hter().value
    (100.0, 0.0)
    """

    def __init__(self, classes: int) -> None:
        self.first = 1 if classes == 2 else 0
        self.counts = torch.zeros(classes - self.first, 2, BINS, dtype=torch.int64)

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Count rows of logits (N, K) and labels (N,)."""
        odds = log_odds(logits)[:, self.first :].asinh().nan_to_num(0.0)
        at = ((odds + REACH) * (BINS / (2 * REACH))).floor().clamp(0, BINS - 1).long()
        kinds = torch.arange(odds.shape[1], device=y.device)
        own = (y.unsqueeze(1) == kinds + self.first).long()
        flat = (((kinds * 2 + own) * BINS) + at).flatten()
        self.counts = self.counts.to(y.device)
        self.counts.view(-1).scatter_add_(0, flat, torch.ones_like(flat))

    def merge(self) -> None:
        """Add up what all processes counted."""
        self.counts = add_up(self.counts)

    def auc(self) -> Score:
        """Give the area under the curve in percent: how often a row ranks above one of the rest.

        Two rows of one bin count half, as ties do, so it is off by at most half the share of pairs
        in one bin. Its error is DeLong's (1988); the mean of several classes has the mean of
        theirs, as if they erred together, which is an upper bound. Classes of which no row, or
        every row, is there do not count.

        Raises:
            ValueError: If no class does.
        """
        found = [areas(one.numpy()) for one in self.counts.cpu() if one.sum(1).all()]
        if not found:
            raise ValueError(f"AUC {NEEDS_BOTH}")
        value, error = (100 * float(np.mean(one)) for one in zip(*found, strict=True))
        return bounded(Score("AUC", value, value - 1.96 * error, value + 1.96 * error, error))

    def threshold(self) -> float:
        """Give the log-odds of the second class at which both classes' error rates are the same.

        Of several that are as near it is the middle one. Off by at most the width of a bin.
        """
        gaps = np.abs(np.subtract(*self._errors()))
        nearest = np.flatnonzero(gaps == gaps.min())
        edge = int(nearest[len(nearest) // 2])
        return math.sinh(edge * (2 * REACH / BINS) - REACH)

    def hter(self, threshold: float | None = None) -> Score:
        """Give the mean of both classes' error rates in percent, at a threshold of log-odds.

        By default it is `threshold`, where both are equal. The interval is `mean_of_shares`'s, with
        the threshold as given.

        Raises:
            ValueError: If a class has no row.
        """
        told = self.threshold() if threshold is None else threshold
        edge = round((math.asinh(told) + REACH) * (BINS / (2 * REACH)))
        totals = self.counts[0].sum(1).tolist()
        wrong = [
            round(one[min(max(edge, 0), BINS)] * n)
            for one, n in zip(self._errors(), totals, strict=True)
        ]
        return replace(mean_of_shares("HTER", wrong, totals), better="lower")

    def _errors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give both classes' error rates where the second is said from each edge on."""
        counts = self.counts[0].cpu().numpy()
        if not counts.sum(1).all():
            raise ValueError(f"HTER {NEEDS_BOTH}")
        below = np.concatenate([np.zeros((2, 1)), counts.cumsum(1)], axis=1)
        below /= below[:, -1:]
        return 1 - below[0], below[1]


def log_odds(logits: Tensor) -> Tensor:
    """Give each class's log-odds, float64 (N, K), of logits (N, K).

    They stay exact where a class is nearly certain.

    >>> log_odds(torch.tensor([[50.0, 0.0]])).tolist()
    [[50.0, -50.0]]
    """
    logits = logits.double()
    whole, top = logits.logsumexp(1, keepdim=True), logits.argmax(1, keepdim=True)
    beside = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    rest = whole + torch.log1p(-(logits - whole).exp())
    return logits - rest.scatter(1, top, beside)


NEEDS_BOTH = (
    "is of rows of a class and of others, and this set has those of one class alone: test on a set "
    "with both, or give --score accuracy"
)


def areas(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Give the area under the curve of counts (2, bins), of others and own, and its error.

    Source of the error: DeLong et al., 1988, whose placements are the same for all rows of a bin.

    >>> areas(np.array([[2, 0], [0, 2]]))
    (1.0, 0.0)
    >>> areas(np.array([[1, 1], [1, 1]]))[0]
    0.5
    """
    others, own = counts.astype(float)
    totals = others.sum(), own.sum()
    above = (others.cumsum() - others / 2) / totals[0]  # others that an own row is above
    under = 1 - (own.cumsum() - own / 2) / totals[1]  # own rows that are above one of the others
    area = float(own @ above / totals[1])
    parts = []
    for weights, placed, total in ((own, above, totals[1]), (others, under, totals[0])):
        spread = weights @ (placed - area) ** 2 / max(total - 1, 1)
        parts.append(spread / total)
    return area, math.sqrt(sum(parts))


def balanced_accuracy(confusion: Tensor) -> Score:
    """Give the mean recall in percent of classes that are there; a row a true class (K, K).

    >>> balanced_accuracy(torch.tensor([[3, 1, 0], [0, 1, 0], [0, 0, 0]])).value
    87.5
    """
    there = confusion.sum(1) > 0
    right = confusion.diagonal()[there].tolist()
    return mean_of_shares("balanced accuracy", right, confusion.sum(1)[there].tolist())


def mean_of_shares(name: str, right: list[int], count: list[int]) -> Score:
    """Give the mean of shares ``right / count``, in percent.

    The interval joins Wilson's of each by the squares of their reaches. Source: Zou and Donner,
    2008 (MOVER).

    >>> one = mean_of_shares("x", [5, 10], [10, 10])
    >>> one.value, round(one.low, 1), round(one.high, 1)
    (75.0, 55.9, 88.2)
    """
    shares = [part / whole for part, whole in zip(right, count, strict=True)]
    known = [(one, *wilson(r, n)) for one, r, n in zip(shares, right, count, strict=True)]
    value = sum(shares) / len(shares)
    down = math.sqrt(sum((one - low) ** 2 for one, low, _ in known)) / len(known)
    up = math.sqrt(sum((high - one) ** 2 for one, _, high in known)) / len(known)
    error = math.sqrt(sum(p * (1 - p) / n for p, n in zip(shares, count, strict=True))) / len(known)
    low, high = 100 * (value - down), 100 * (value + up)
    return bounded(Score(name, 100 * value, low, high, 100 * error))


def macro_f1(confusion: Tensor) -> Score:
    """Give the mean F1 in percent over classes that are there or predicted, of counts (K, K).

    Its interval and error are of a bootstrap over rows, with draws that are always the same.
    Source: Efron, 1979.

    >>> round(macro_f1(torch.tensor([[3, 1], [0, 2]])).value, 2)
    82.86
    """
    true, said = confusion.nonzero(as_tuple=True)
    cells, classes = confusion[true, said].double(), len(confusion)
    rows, random, drawn = int(cells.sum()), np.random.default_rng(0), list[float]()
    while len(drawn) < DRAWS:
        some = min(DRAWS - len(drawn), max(1, AT_ONCE // max(len(cells), classes)))
        often = random.multinomial(rows, (cells / rows).numpy(), size=some)
        drawn += mean_f1(torch.from_numpy(often).double(), true, said, classes).tolist()
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = float(mean_f1(cells[None], true, said, classes)[0])
    return Score("macro F1", value, float(low), float(high), float(np.std(drawn)))


def mean_f1(often: Tensor, true: Tensor, said: Tensor, classes: int) -> Tensor:
    """Give the mean F1 in percent (D,) of sets that hold pairs of classes (C,) so often (D, C).

    >>> one = torch.tensor([0, 1])
    >>> mean_f1(torch.ones(1, 2), one, one, 3)
    tensor([100.])
    """
    none = often.new_zeros(len(often), classes)
    met = none.index_add(1, true, often * (true == said))
    either = none.index_add(1, true, often).index_add(1, said, often)
    return 200 * (met / either.clamp_min(1)).sum(1) / (either > 0).sum(1)


def bounded(score: Score) -> Score:
    """Keep an interval of percents between 0 and 100."""
    return replace(score, low=max(0.0, score.low), high=min(100.0, score.high))
