"""Which values a search tries: the starting values, points spread evenly, then an estimator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GridSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from adaptune.types import Between

Over = Mapping[str, Between | Sequence[float]]
"""What is searched: the range of each hyper-parameter, or the values of a grid."""


def sampler_for(over: Over, start: Mapping[str, float], *, budget: int, seed: int) -> BaseSampler:
    """Choose a sampler: every combination of a grid, or points spread over ranges and then TPE."""
    ranges = {name: one for name, one in over.items() if isinstance(one, Between)}
    if len(ranges) == len(over):
        return SpreadThenTPE(ranges, start, budget=budget, seed=seed)
    return GridSampler({n: list(one) for n, one in over.items() if not isinstance(one, Between)})


class SpreadThenTPE(TPESampler):
    """Begin with given values, go on with points spread over the ranges, for half of the budget.

    The rest follows the tree-structured Parzen estimator (Bergstra et al., 2011). Which point a
    trial gets depends on its number alone, so processes that share a study need not agree on who
    hands them out. Points are Sobol's, scrambled by the seed, on the logarithm of each range.

    >>> sampler = SpreadThenTPE({"lr": Between(0.01, 1.0)}, {"lr": 0.1}, budget=8, seed=0)
    >>> len(sampler.points), sampler.points[0]
    (5, {'lr': 0.1})
    """

    def __init__(
        self,
        ranges: Mapping[str, Between],
        start: Mapping[str, float],
        *,
        budget: int,
        seed: int,
    ) -> None:
        super().__init__(n_startup_trials=budget // 2, seed=seed)
        low = np.log([one.low for one in ranges.values()])
        high = np.log([one.high for one in ranges.values()])
        places = qmc.Sobol(len(ranges), seed=np.random.default_rng(seed)).random(8)[: budget // 2]
        points = np.exp(low + places * (high - low))
        clipped = {n: min(max(start[n], one.low), one.high) for n, one in ranges.items()}
        self.points = [clipped, *(dict(zip(ranges, map(float, p), strict=True)) for p in points)]
        self.distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(one.low, one.high, log=True) for name, one in ranges.items()
        }

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Search all ranges at once while points are left."""
        if self._place(study, trial) < len(self.points):
            return self.distributions
        return super().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Give the trial the point of its number, or what the estimator proposes."""
        place = self._place(study, trial)
        if place < len(self.points):
            return dict(self.points[place])
        return super().sample_relative(study, trial, search_space)

    def _place(self, study: Study, trial: FrozenTrial) -> int:
        """Count the trials before this one that took a point: those queued had values already."""
        trials = study.get_trials(deepcopy=False)
        queued = sum("fixed_params" in t.system_attrs for t in trials if t.number < trial.number)
        return trial.number - queued
