"""What runs one after the other come to: what is learnt, kept and forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from adaptune.results.row import HOME
from adaptune.results.run import RunResults
from adaptune.results.score import Measure
from adaptune.results.summary import Interval, interval

Matrix = Sequence[Sequence[float]]
"""Scores after each step (a row) on each domain (a column), both in the order of the sequence."""


@dataclass(frozen=True)
class SequenceSummary:
    """One method over its seeds: means with 95% intervals over these, where there are two.

    ``average`` is the mean over all steps and domains, ``last`` that over domains after the last
    step, ``transfer`` what is reached on domains before they are learnt, ``forgetting`` what is
    lost of all but the last between the step that learnt them and the end, above 0 where it is
    worse then. ``matrix`` is the mean over seeds. Sources: average, last and transfer as in ZSCL
    (Zheng et al., 2023), forgetting as in Chaudhry et al., 2018, from the step that learnt.
    """

    method: str
    seeds: int
    domains: Sequence[str]
    average: Interval
    last: Interval
    transfer: Interval
    forgetting: Interval
    matrix: Matrix

    def to_dict(self) -> dict[str, Any]:
        """Give the summary as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> SequenceSummary:
        """Read a summary as JSON has it."""
        names = ("average", "last", "transfer", "forgetting")
        return cls(**{**found, **{name: Interval(**found[name]) for name in names}})


def average(found: Matrix) -> float:
    """Give the mean over all steps and domains.

    >>> average([[80.0, 40.0], [60.0, 90.0]])
    67.5
    """
    return mean(value for row in found for value in row)


def last(found: Matrix) -> float:
    """Give the mean over domains after the last step.

    >>> last([[80.0, 40.0], [60.0, 90.0]])
    75.0
    """
    return mean(found[-1])


def transfer(found: Matrix) -> float:
    """Give the mean over domains but the first of the mean over steps before each is learnt.

    >>> transfer([[80.0, 40.0, 10.0], [60.0, 90.0, 30.0], [0.0, 0.0, 0.0]])
    30.0
    """
    return mean(mean(row[at] for row in found[:at]) for at in range(1, len(found)))


def forgetting(found: Matrix, measure: Measure) -> float:
    """Give how much worse domains but the last are in the end than when they were learnt.

    >>> forgetting([[80.0, 40.0], [60.0, 90.0]], Measure())
    20.0
    """
    steps = range(len(found) - 1)
    return mean(measure.merit(found[at][at]) - measure.merit(found[-1][at]) for at in steps)


def sequences(runs: Sequence[RunResults], order: Sequence[str]) -> list[SequenceSummary]:
    """Summarise runs of several methods and seeds, each of which has one on each domain of all."""
    own: dict[str, dict[int, dict[str, RunResults]]] = {}
    for run in runs:
        own.setdefault(run.method, {}).setdefault(run.seed, {})[run.domain] = run
    return [
        _summary(name, [_matrix(one, order) for one in seeds.values()], order, runs[0].measure)
        for name, seeds in own.items()
    ]


def _matrix(own: Mapping[str, RunResults], order: Sequence[str]) -> Matrix:
    return [
        [own[step].scores[HOME if test == step else test].main.value for test in order]
        for step in order
    ]


def _summary(
    name: str, found: Sequence[Matrix], order: Sequence[str], measure: Measure
) -> SequenceSummary:
    whole = [[mean(cell) for cell in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]
    return SequenceSummary(
        name,
        len(found),
        list(order),
        _over([average(one) for one in found]),
        _over([last(one) for one in found]),
        _over([transfer(one) for one in found]),
        _over([forgetting(one, measure) for one in found]),
        whole,
    )


def _over(values: Sequence[float]) -> Interval:
    return interval(values) if len(values) > 1 else Interval(values[0], values[0], values[0])


def sequence_table(
    found: Sequence[SequenceSummary], measure: Measure
) -> tuple[str, list[str], list[list[str]]]:
    """Give title, columns and rows of a table: the measures, and each domain learnt and in the end.

    Intervals stand where there are two seeds or more.
    """
    first = found[0]
    columns = ["method", "last", "average", "transfer", "forgetting", *first.domains]
    rows = []
    for line in found:
        cells = [
            f"{measure.number(one.mean)}"
            + (
                f" ({measure.number(one.low)} to {measure.number(one.high)})"
                if line.seeds > 1
                else ""
            )
            for one in (line.last, line.average, line.transfer, line.forgetting)
        ]
        kept = [
            f"{measure.number(line.matrix[at][at])}, {measure.number(line.matrix[-1][at])}"
            for at in range(len(line.domains))
        ]
        rows.append([line.method, *cells, *kept])
    return f"{measure.title} in the sequence {', '.join(first.domains)}", columns, rows
