"""Softmax regression along a path of penalties, every solution to a stated accuracy.

Features are centred, scaled and turned into their principal axes once: the bias takes up the
centre, lengths stay, and the curvature is nearly diagonal there. Newton's method with conjugate
gradients then solves one C after the other, from where the last solutions point. Losses and
gradients are in float64; float32 serves the directions alone, which decide how fast it ends and
not where.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from adaptune.ops.principal import Table

TOLERANCE = 1e-3
"""Length of the gradient, in lengths of the weights, at which a solution is accepted."""

ROUNDING = 1e-14
"""Length of the gradient, in C times rows, that is put down to rounding."""

FORCING = 0.05
"""Share of the gradient that a Newton step leaves."""

TURNS = 500
"""Conjugate gradients of a Newton step at most."""

NEGLIGIBLE = 1e-20
"""Chances below this do not take part in directions."""

AMPLIFICATION = 8.0
"""How often a guess may repeat the errors of the solutions that it is made of."""


@dataclass(frozen=True)
class PathPoint:
    """A point (K, R + 1), biases last, with the loss there and its gradient.

    ``doubt`` (K,) is the mean of p (1 - p), ``chances`` are the p where memory holds all rows.
    """

    point: Tensor
    loss: float
    gradient: Tensor
    doubt: Tensor
    chances: list[Tensor]

    @cached_property
    def steepness(self) -> float:
        """Give the length of the gradient."""
        return math.sqrt(_dot(self.gradient, self.gradient))

    @cached_property
    def length(self) -> float:
        """Give the length of the weights."""
        return float(self.point[:, :-1].norm())


class Regression:
    """Softmax regression: ``C * sum of cross-entropies + half the squared weights``; biases free.

    Rows have classes ``y`` (N,), which are 0 to K - 1 and have a row each.
    """

    def __init__(self, table: Table, y: Tensor) -> None:
        self.table, self.y = table, y
        self.columns = torch.split(y[:, None], table.size)
        squares = table.axes.squares
        one = squares.new_ones(1)
        self.squares = torch.cat([squares, len(y) * one])
        self.penalised = torch.cat([torch.ones_like(squares), 0 * one])

    def start(self) -> Tensor:
        """Give the minimum for C towards 0: no weights, and classes as frequent as they are."""
        biases = self.y.bincount().double().log()
        weights = biases.new_zeros(len(biases), len(self.squares) - 1)
        return torch.cat([weights, biases[:, None]], 1)

    def at(self, point: Tensor, c: float) -> PathPoint:
        """Measure the loss and its gradient at a point."""
        turned = self.table.turned(point)
        sums, doubt, kept = torch.zeros_like(turned), torch.zeros_like(point[:, 0]), []
        weights = point * self.penalised
        loss = weights.square().sum() / 2
        for block, own in zip(self.table.blocks(), self.columns, strict=True):
            logs = (block @ turned.T).log_softmax(1)
            loss -= c * logs.gather(1, own).sum()
            chances = logs.exp_()
            rough = chances.float()
            doubt += (rough - rough.square()).sqrt_().sum(0)
            if self.table.whole:
                kept = [_rounded(rough)]
            chances[torch.arange(len(own), device=own.device), own[:, 0]] -= 1
            sums.addmm_(chances.T, block, alpha=c)
        gradient = weights + self.table.turned_back(sums)
        return PathPoint(point, float(loss), gradient, (doubt / len(self.y)).square(), kept)

    def curvature(self, here: PathPoint, c: float) -> Callable[[Tensor], Tensor]:
        """Give the product of the Hessian at a place with a step (K, R + 1), in float32."""
        table, penalised = self.table, self.penalised.float()
        turned = table.turned(here.point.float())

        def product(step: Tensor) -> Tensor:
            along = table.turned(step)
            sums = torch.zeros_like(along)
            for block, own in zip(table.blocks(torch.float32), self.columns, strict=True):
                whole = table.whole
                chances = here.chances[0] if whole else _rounded((block @ turned.T).softmax(1))
                change = block @ along.T
                change -= change.gather(1, own)  # else chances of nearly one cancel, and digits go
                change *= chances
                change.addcmul_(chances, change.sum(1, keepdim=True), value=-1)
                sums.addmm_(change.T, block, alpha=c)
            return torch.addcmul(table.turned_back(sums), penalised, step)

        return product

    def direction(self, here: PathPoint, c: float, left: float) -> Tensor:
        """Give Newton's step, by conjugate gradients until ``left`` of the gradient is left.

        They are preconditioned by the curvature that were if all rows were in the same doubt.
        """
        product, steepness = self.curvature(here, c), here.steepness
        doubt = here.doubt.clamp_min(1e-12)
        inverse = (self.penalised + c * torch.outer(doubt, self.squares)).reciprocal().float()
        rest = (here.gradient / -steepness).float()
        step, along = torch.zeros_like(rest), inverse * rest
        size = _dot(rest, along)
        for _ in range(TURNS):
            bent = product(along)
            curved = _dot(along, bent)
            if curved <= 0:
                break
            stride = size / curved
            step.add_(along, alpha=stride)
            rest.sub_(bent, alpha=stride)
            if _dot(rest, rest) <= left**2:
                break
            toward = inverse * rest
            size, before = _dot(rest, toward), size
            along = torch.add(toward, along, alpha=size / before)
        return step.double() * steepness

    def descended(self, here: PathPoint, step: Tensor, c: float) -> PathPoint:
        """Go as much of a step as lowers the loss as it should, or stay."""
        slope = float((here.gradient * step).sum())
        for halvings in range(40):
            share = 0.5**halvings
            ahead = self.at(here.point + share * step, c)
            if ahead.loss <= here.loss + 1e-4 * share * slope + 1e-12 * abs(here.loss):
                return ahead
        return here

    def minimum(self, start: Tensor, c: float, tolerance: float, steps: int) -> Tensor:
        """Descend from a point until the gradient is short."""
        here = self.at(start, c)
        for _ in range(steps):
            short = tolerance * here.length + ROUNDING * c * len(self.y)
            if here.steepness <= short:
                return here.point
            left = max(FORCING, 0.8 * short / here.steepness)
            ahead = self.descended(here, self.direction(here, c, left), c)
            if ahead is here:
                break
            here = ahead
        warnings.warn(f"the logistic regression at C = {c:g} is not at its minimum", stacklevel=2)
        return here.point


def softmax_path(
    regression: Regression, cs: Iterable[float], *, tolerance: float = TOLERANCE, steps: int = 200
) -> Iterator[Tensor]:
    """Give the minimum (K, R + 1) for each C, from the smallest on.

    As the weights' curvature is one at least, weights are within ``tolerance`` of their length of
    the minimum's, and the loss within half its square of the minimum.
    """
    found: list[tuple[float, Tensor]] = []
    for c in sorted(set(cs)):
        start = _guess(found, math.log(c)) if found else regression.start()
        found = [*found[-2:], (math.log(c), regression.minimum(start, c, tolerance, steps))]
        yield found[-1][1]


def _guess(found: list[tuple[float, Tensor]], at: float) -> Tensor:
    """Continue the curve through the last points, unless that were to repeat their errors."""
    for number in range(len(found), 1, -1):
        last = found[-number:]
        shares = [
            math.prod((at - other) / (place - other) for other, _ in last if other != place)
            for place, _ in last
        ]
        if sum(map(abs, shares)) <= AMPLIFICATION:
            parts = [share * point for share, (_, point) in zip(shares, last, strict=True)]
            return torch.stack(parts).sum(0)
    return found[-1][1]


def _rounded(chances: Tensor) -> Tensor:
    """Put chances to zero that change nothing: products below float32's range are slow to form."""
    return chances.masked_fill_(chances < NEGLIGIBLE, 0.0)


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))
