"""How well the moments of a layer's input are known, from how batches differ."""

from __future__ import annotations

import math

import torch

from adaptune.batchnorm.moments import Moments, as_one_value, moments, pool_moments

PENDING = 16
"""Batches whose moments wait to be pooled at once."""


class RunningMoments:
    """The pooled moments of one layer's input over batches, and how sure they are.

    ``by_batch`` averages the moments of batches, as `as_one_value` says, instead of pooling values.
    Only ``with_error`` is it known how sure they are.

    >>> known = RunningMoments(with_error=True)
    >>> for batch in torch.randn(2560, 3).split(64):
    ...     known.add(moments(batch))
    >>> known.pooled().count, 0.01 < known.error() < 0.06
    (2560, True)
    """

    def __init__(self, *, by_batch: bool = False, with_error: bool = False) -> None:
        self.by_batch, self.with_error = by_batch, with_error
        self.pending: list[Moments] = []
        self.settled: list[Moments] = []
        self.between: list[Moments] = []

    def add(self, one: Moments) -> None:
        """Count the moments of one batch."""
        self.pending.append(one)
        if len(self.pending) == PENDING:
            self._settle()

    def pooled(self) -> Moments:
        """Give the moments of all batches as one."""
        self._settle()
        return self.settled[0]

    def error(self, eps: float = 0.0) -> float:
        """Give the largest standard error of any channel's mean, in deviations, or log-variance.

        To every variance ``eps`` is added, as a batch norm does. Batches must be independent
        draws, as those of data in random order are. Infinite for one batch. Source: the method of
        batch means (Conway, 1963), and the delta method.
        """
        self._settle()
        between = self.between[0]
        if between.count < 2:
            return math.inf
        variance = between.mean.chunk(2)[1] + eps
        of_mean, of_variance = (between.variance() / between.count).chunk(2)
        squares = torch.stack([of_mean / variance, of_variance / variance.square()])
        return float(squares.where(variance > 0, 0.0).amax().sqrt())

    def _settle(self) -> None:
        if not self.pending:
            return
        seen = [one for one in self.pending if one.count] or self.pending[:1]
        own = [as_one_value(one) for one in seen] if self.by_batch else seen
        self.settled = [pool_moments([*self.settled, *own])]
        if self.with_error:
            values = [torch.cat([one.mean, one.deviations / max(one.count, 1)]) for one in seen]
            self.between = [pool_moments([*self.between, moments(torch.stack(values))])]
        self.pending = []
