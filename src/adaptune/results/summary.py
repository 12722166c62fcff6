"""What several runs say together: means over seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from adaptune.results.row import HOME
from adaptune.results.run import RunResults
from adaptune.results.score import Measure


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodSummary:
    """One method over its runs; what no run was tested on is None.

    ``id`` is at home, ``ood`` the mean elsewhere, ``domains`` what was reached by domain and
    ``open_set`` the means of each open set's scores, by name. ``rank`` is the mean place among
    methods, where several training domains are counted.
    """

    method: str
    seeds: int
    id: Interval | None
    ood: Interval | None
    domains: Mapping[str, Interval]
    distortion: float | None
    seconds: float
    open_set: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rank: float | None = None

    @property
    def reached(self) -> Interval | None:
        """What methods are ranked by: the scores elsewhere, or else at home."""
        return self.ood or self.id

    def to_dict(self) -> dict[str, Any]:
        """Give the summary as JSON has it."""
        found = asdict(self)
        first = ("method", "seeds", "id", "ood", "domains")
        last = ("open_set", "distortion", "seconds")
        if self.rank is not None:
            last = ("distortion", "seconds", "rank")
        return {name: found[name] for name in (*first, *last)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> MethodSummary:
        """Read a summary as JSON has it."""
        domains = {name: Interval(**one) for name, one in found["domains"].items()}
        whole = {name: found[name] and Interval(**found[name]) for name in ("id", "ood")}
        return cls(**{**found, **whole, "domains": domains})


def summarize(runs: Sequence[RunResults]) -> list[MethodSummary]:
    """Give each method's means over seeds, in the order of the runs, with 95% intervals.

    With two seeds or more the interval is Student's over seeds; with one it is that of the score
    on the examples that one run was tested on.
    """
    names = list(dict.fromkeys(run.method for run in runs))
    return [_summary(name, [run for run in runs if run.method == name]) for name in names]


def _summary(name: str, runs: Sequence[RunResults]) -> MethodSummary:
    tests = list(runs[0].scores)
    others = [test for test in tests if test != HOME]
    spread = {test: _over(runs, [test]) for test in tests}
    moved = [run.distortion.cosine for run in runs if run.distortion]
    return MethodSummary(
        name,
        len(runs),
        spread.get(HOME),
        _over(runs, others) if others else None,
        {test: spread[test] for test in others},
        mean(moved) if moved else None,
        mean(run.seconds for run in runs),
        _open_sets(runs),
    )


def _open_sets(runs: Sequence[RunResults]) -> dict[str, dict[str, float]]:
    """Average what runs reached on test sets with known and unknown images, by test set."""
    scored: list[dict[str, Any]] = [
        {test: one.detail.get("open_set") for test, one in run.scores.items()} for run in runs
    ]
    return {
        test: {key: mean(one[test][key] for one in scored) for key in found}
        for test, found in scored[0].items()
        if found
    }


def _over(runs: Sequence[RunResults], tests: Sequence[str]) -> Interval:
    """Average over test sets, then over seeds; no share of examples lies beyond 0 and 100."""
    values = [mean(run.scores[test].main.value for test in tests) for run in runs]
    if len(values) > 1:
        found = interval(values)
    else:
        scores = [runs[0].scores[test] for test in tests]
        variance = sum(score.variance for score in scores) / len(scores) ** 2
        found = _around(values[0], 196 * math.sqrt(variance))
    if runs[0].measure.unit != "percent":
        return found
    return Interval(found.mean, max(0.0, found.low), min(100.0, found.high))


def interval(values: Sequence[float]) -> Interval:
    """Give the mean of two values or more with Student's 95% interval.

    >>> interval([1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    error = stdev(values) / math.sqrt(len(values))
    return _around(mean(values), float(student.ppf(0.975, len(values) - 1)) * error)


def _around(middle: float, reach: float) -> Interval:
    return Interval(middle, middle - reach, middle + reach)


def paired(runs: Sequence[RunResults], one: str, other: str, where: str) -> Interval | None:
    """Give by how much one method is better than another over the seeds that both have.

    ``where`` is ``id`` for what is reached at home or ``ood`` for the mean elsewhere. None with
    fewer than two seeds.
    """
    values = {
        (run.method, run.seed): run.measure.merit(value)
        for run in runs
        if (value := run.home if where == HOME else run.mean_elsewhere) is not None
    }
    seeds = {seed for method, seed in values if method == one}
    both = [(one, other, seed) for seed in sorted(seeds) if (other, seed) in values]
    gaps = [values[a, seed] - values[b, seed] for a, b, seed in both]
    return interval(gaps) if len(gaps) > 1 else None


def best_method(summary: Iterable[MethodSummary], measure: Measure) -> str:
    """Name the method that ranks first, by what it reached elsewhere or else at home.

    >>> lines = [
    ...     MethodSummary(name, 1, None, Interval(value, 0, 1), {}, None, 1.0)
    ...     for name, value in (("a", 0.4), ("b", 0.6))
    ... ]
    >>> best_method(lines, Measure()), best_method(lines, Measure("mae", "", "lower"))
    ('b', 'a')
    """

    def merit(line: MethodSummary) -> float:
        return measure.merit(line.reached.mean) if line.reached else -math.inf

    return max(summary, key=merit).method
