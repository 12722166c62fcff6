"""Scores that look at several networks at once: how far they agree on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from adaptune.selection.defined import UndefinedScoreError

FEWEST = 3
"""Networks that a line of agreements is drawn through: two have one agreement."""


@dataclass(frozen=True)
class Bag:
    """What R networks answer on the same rows: numbers of classes, int64.

    ``target`` (R, N) on images of the target, ``val`` (R, V) on ID validation, where ``y`` (V,) is
    right; of no rows where the networks were not validated on the same images.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    target: Tensor
    val: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.target.dim() != 2 or self.val.shape != (len(self.target), len(self.y)):
            raise ValueError(
                f"answers of {tuple(self.target.shape)} on the target and {tuple(self.val.shape)} "
                f"on {len(self.y)} validation rows: expected (R, N) and (R, {len(self.y)})"
            )


def agreement(bag: Bag) -> list[float]:
    """The share of target rows on which a network and another agree, in percent, mean over others.

    Two networks that learnt alike and err alike agree as well, so it is what most networks of the
    bag do that is rewarded. As the measure of one pair it is that of Jiang et al., 2022 (Assessing
    Generalization of SGD via Disagreement); the mean over a bag, to choose by, is ours.

    Raises:
        Undefined: If there are no rows, or no other network.

    >>> none = torch.zeros(3, 0)
    >>> agreement(Bag(torch.tensor([[0, 1], [0, 1], [0, 0]]), none, none[0]))
    [75.0, 75.0, 50.0]
    """
    alike = agreements(bag.target, fewest=2)
    count = len(alike)
    return [100 * float(value) for value in (alike.sum(1) - 1) / (count - 1)]


def majority(bag: Bag) -> list[float]:
    """The share of target rows on which a network agrees with the vote of all, in percent.

    Each network has one vote, its own among them; of classes with as many votes the first wins. It
    is the accuracy that the vote's answers would give each network as labels; a baseline, ours.

    Raises:
        Undefined: If there are no rows, or no other network.

    >>> none = torch.zeros(3, 0)
    >>> majority(Bag(torch.tensor([[0, 1], [0, 1], [0, 0]]), none, none[0]))
    [100.0, 100.0, 50.0]
    """
    refuse(bag.target, fewest=2)
    votes = F.one_hot(bag.target).sum(0).argmax(1)
    return [100 * float(row) for row in (bag.target == votes).double().mean(1)]


def on_the_line(bag: Bag) -> list[float]:
    """ALine-S: each network's accuracy on ID validation carried over by the line of agreements.

    On the probit scale, agreements of pairs on the target are a line in their agreements on ID
    validation, and accuracies lie on the same line: acc' = ndtr(a ndtri(acc) + b), in percent, with
    a and b by least squares over all pairs. Where a is positive it ranks networks as ID validation
    does, so it estimates and chooses nothing new. Source: Agreement-on-the-Line (Baek et al.,
    2022). That shares are kept half a row from 0 and 1, whose probit is infinite, is ours.

    Raises:
        Undefined: If there are no rows of either set, fewer than three networks, or all agree as
            often on ID validation.

    >>> y = torch.arange(8) % 2
    >>> val = torch.stack([y, y ^ (torch.arange(8) < 1), y ^ (torch.arange(8) > 5)])
    >>> [round(value) for value in on_the_line(Bag(val, val, y))]  # no shift at all
    [94, 88, 75]
    """
    line = Line.of(bag)
    return [100 * float(value) for value in ndtr(line.slope * line.accuracy + line.bias)]


def on_the_line_by_pairs(bag: Bag) -> list[float]:
    """ALine-D: as `on_the_line`, each pair by what it does itself on the target, solved for all.

    For networks i and j, with all shares on the probit scale and the target's marked by ', the mean
    of acc_i' and acc_j' is agr_ij' + a ((acc_i + acc_j) / 2 - agr_ij): the bias b falls out. These
    are as many equations as pairs, solved for acc' by least squares. Source: Baek et al., 2022.

    Raises:
        Undefined: As `on_the_line`.

    >>> y = torch.arange(8) % 2
    >>> val = torch.stack([y, y ^ (torch.arange(8) < 1), y ^ (torch.arange(8) > 5)])
    >>> [round(value) for value in on_the_line_by_pairs(Bag(val, val, y))]
    [94, 88, 75]
    """
    line = Line.of(bag)
    ones, others = np.triu_indices(len(line.accuracy), 1)
    pairs = np.zeros((len(ones), len(line.accuracy)))
    pairs[np.arange(len(ones)), ones] = pairs[np.arange(len(ones)), others] = 0.5
    goal = line.there + line.slope * (pairs @ line.accuracy - line.here)
    solved, *_ = np.linalg.lstsq(pairs, goal, rcond=None)
    return [100 * float(value) for value in ndtr(solved)]


@dataclass(frozen=True)
class Line:
    """Agreements of all pairs on the probit scale, here and on the target, and the line in them.

    ``here`` and ``there`` are (P,), pair by pair; ``accuracy`` (R,) is that on ID validation.
    """

    here: NDArray[np.float64]
    there: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    slope: float
    bias: float

    @classmethod
    def of(cls, bag: Bag) -> Line:
        """Draw the line of a bag by least squares."""
        pairs = np.triu_indices(len(bag.target), 1)
        here = probit(agreements(bag.val, fewest=FEWEST)[pairs], bag.val.shape[1])
        there = probit(agreements(bag.target, fewest=FEWEST)[pairs], bag.target.shape[1])
        if np.ptp(here) == 0:
            raise UndefinedScoreError("all networks agree as often: no line goes through one point")
        right = (bag.val == bag.y).double().mean(1)
        off = here - here.mean()
        slope = float(off @ there / (off @ off))
        bias = float(there.mean() - slope * here.mean())
        return cls(here, there, probit(right, len(bag.y)), slope, bias)


def agreements(answers: Tensor, *, fewest: int) -> Tensor:
    """Give the share of rows on which each pair of networks agrees, float64 (R, R).

    >>> agreements(torch.tensor([[0, 1], [0, 0]]), fewest=2).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    refuse(answers, fewest=fewest)
    return torch.stack([(answers == one).double().mean(1) for one in answers])


def refuse(answers: Tensor, *, fewest: int) -> None:
    """Refuse answers of too few networks, or on no rows.

    >>> refuse(torch.zeros(2, 5), fewest=2)
    """
    if len(answers) < fewest or answers.shape[1] == 0:
        raise UndefinedScoreError(
            f"{len(answers)} networks on {answers.shape[1]} rows: at least {fewest} are needed on 1"
        )


def probit(shares: Tensor, rows: int) -> NDArray[np.float64]:
    """Give the normal quantiles of shares of so many rows, kept half a row from 0 and 1.

    >>> probit(torch.tensor([0.5, 1.0]), 50).round(2).tolist()
    [0.0, 2.33]
    """
    edge = 0.5 / rows
    found: NDArray[np.float64] = ndtri(shares.double().clamp(edge, 1 - edge).numpy())
    return found


BAG_SCORES: dict[str, Callable[[Bag], list[float]]] = {
    "agreement": agreement,
    "majority-vote": majority,
    "aline-s": on_the_line,
    "aline-d": on_the_line_by_pairs,
}
"""Scores of each network of a bag, in percent, by name; higher is better."""


def bag_scores(bag: Bag) -> list[dict[str, float]]:
    """Give every score of each network of a bag, by name; NaN where one has no value.

    >>> none = torch.zeros(1, 0)
    >>> bag_scores(Bag(torch.zeros(1, 5), none, none[0]))[0]["agreement"]
    nan
    """
    told: dict[str, Sequence[float]] = {}
    for name, score in BAG_SCORES.items():
        try:
            told[name] = score(bag)
        except UndefinedScoreError:
            told[name] = [math.nan] * len(bag.target)
    return [{name: told[name][row] for name in told} for row in range(len(bag.target))]
