"""Who wins over several domains and seeds: means with bootstrap intervals, ranks, wins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any, Literal, TypeVar

import numpy as np

from adaptune.results.images import Draws, Pair, Ran, Subjects, count_subjects, image_luck
from adaptune.results.row import HOME
from adaptune.results.summary import Interval, MethodSummary

DRAWS = 10_000
TIE = 0.5
"""Points up to which two runs count as level; of a score without points, hundredths of it."""

Place = Literal["id", "ood"]
"""Where a score is reached: at home, or on the mean of other domains."""

PLACES: tuple[Place, Place] = ("id", "ood")

AnyRun = TypeVar("AnyRun", bound=Ran)


@dataclass(frozen=True)
class Versus:
    """By how much ``one`` method is better than an ``other``, and how often it wins.

    ``images`` are the test images whose choice the intervals count in; 0 where they do not.
    """

    one: str
    other: str
    id: Interval
    ood: Interval
    wins: int
    losses: int
    ties: int
    images: int = 0

    @property
    def matches(self) -> int:
        """How many pairs of runs there are."""
        return self.wins + self.losses + self.ties

    def to_dict(self) -> dict[str, Any]:
        """Give the comparison as JSON has it."""
        found = asdict(self)
        return found if self.images else {k: v for k, v in found.items() if k != "images"}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Versus:
        """Read a comparison as JSON has it."""
        return cls(**{**found, "id": Interval(**found["id"]), "ood": Interval(**found["ood"])})


def bootstrap(values: Mapping[str, Sequence[float]], luck: Draws | None = None) -> Interval:
    """Give the mean over domains of the means over seeds, with its 95% bootstrap interval.

    ``values`` holds one number a seed for each domain. Domains are drawn with replacement, then
    seeds within each (Davison and Hinkley, 1997, two-level resampling), so that the interval speaks
    of other domains too, not of other seeds alone. With few domains it is still somewhat short.
    ``luck`` is what other test images would add to each number, draw by draw; see `image_luck`.

    >>> bootstrap({"a": [1.0, 1.0], "b": [3.0, 3.0]})
    Interval(mean=2.0, low=1.0, high=3.0)
    """
    random = np.random.default_rng(0)
    groups = [np.asarray(group, dtype=float) for group in values.values()]
    # (domain, draw, place): a fresh draw of seeds for each place; domains may differ in seeds
    drawn = []
    for name, g in zip(values, groups, strict=True):
        seeds = random.integers(len(g), size=(DRAWS, len(groups), len(g)))
        moved = np.take_along_axis(luck[name][:, None, :], seeds, axis=2) if luck else 0.0
        drawn.append(g[seeds] + moved)
    means = np.stack([seeds.mean(2) for seeds in drawn])
    chosen = random.integers(len(groups), size=(DRAWS, len(groups)))
    draws = np.arange(DRAWS)[:, None]
    samples = means[chosen, draws, np.arange(len(groups))].mean(1)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(mean(float(g.mean()) for g in groups), float(low), float(high))


def reached(run: Ran, place: Place) -> float:
    """Give the main score of a run at one place; NaN where it was not tested there."""
    value = run.home if place == HOME else run.mean_elsewhere
    return math.nan if value is None else value


def by_domain(runs: Sequence[Ran], place: Place) -> dict[str, list[float]]:
    """Group what runs reached by the domain that they were trained on."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault(run.domain, []).append(reached(run, place))
    return groups


def comparable(runs: Sequence[AnyRun]) -> Sequence[AnyRun]:
    """Keep what can be compared: the domains and seeds that every method has a run of.

    Where no domain and seed has all methods, the method with the fewest runs is left out, until
    one has.

    >>> from adaptune.results.row import RunRow
    >>> runs = [RunRow(m, d, 0, {}, 50.0, 1.0) for m, d in [("a", "x"), ("a", "y"), ("b", "y")]]
    >>> [(run.method, run.domain) for run in comparable(runs)]
    [('a', 'y'), ('b', 'y')]
    """
    ran: dict[str, set[tuple[str, int]]] = {}
    for run in runs:
        ran.setdefault(run.method, set()).add((run.domain, run.seed))
    while not (shared := set.intersection(*ran.values())):
        del ran[min(ran, key=lambda name: len(ran[name]))]
    return [r for r in runs if r.method in ran and (r.domain, r.seed) in shared]


def across(runs: Sequence[Ran], subjects: Subjects | None = None) -> list[MethodSummary]:
    """Give each method's means over domains and seeds, in the order of the runs.

    ``domains`` holds the mean score elsewhere by training domain, ``rank`` the mean place among
    the methods, 1 the best, over training domains and seeds. Intervals count test images in as
    those of `versus` do.
    """
    places, known = ranks(runs), subjects or {}
    summary = []
    for name in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == name]
        elsewhere = by_domain(own, "ood")
        cells = {key: [(run,) for run in own if run.domain == key] for key in elsewhere}
        home = image_luck(cells, known, DRAWS, (HOME,))
        away = image_luck(cells, known, DRAWS)
        summary.append(
            MethodSummary(
                name,
                seeds=max(map(len, elsewhere.values())),
                id=bootstrap(by_domain(own, "id"), home),
                ood=bootstrap(elsewhere, away),
                domains={key: bootstrap({key: few}, away) for key, few in elsewhere.items()},
                distortion=mean(run.distortion.cosine for run in own if run.distortion),
                seconds=mean(run.seconds for run in own),
                rank=places[name],
            )
        )
    return summary


def ranks(runs: Sequence[Ran]) -> dict[str, float]:
    """Give each method's mean place by its score elsewhere, over domains and seeds; 1 is the best.

    Methods that are level share their mean place.

    >>> from adaptune.results.row import RunRow
    >>> ranks([RunRow(m, "d", 0, {}, a, 1.0) for m, a in [("a", 2.0), ("b", 1.0), ("c", 2.0)]])
    {'a': 1.5, 'b': 3.0, 'c': 1.5}
    """
    places: dict[str, list[float]] = {}
    for match in _matches(runs, "ood").values():
        for name, value in match.items():
            above = sum(other > value for other in match.values())
            level = sum(other == value for other in match.values())
            places.setdefault(name, []).append(above + (level + 1) / 2)
    return {name: mean(own) for name, own in places.items()}


def _matches(runs: Sequence[Ran], place: Place) -> dict[tuple[str, int], dict[str, float]]:
    """Group merits by domain and seed, then by method."""
    matches: dict[tuple[str, int], dict[str, float]] = {}
    for run in runs:
        merit = run.measure.merit(reached(run, place))
        matches.setdefault((run.domain, run.seed), {})[run.method] = merit
    return matches


def versus(runs: Sequence[Ran], one: str, other: str, subjects: Subjects | None = None) -> Versus:
    """Compare two methods over the domains and seeds that both have.

    Gives by how much ``one`` is better at home (``id``) and elsewhere (``ood``), paired, with its
    95% bootstrap interval, and how often it wins, ties (up to half a point) and loses elsewhere.
    With ``subjects``, which say what the rows of test sets show, intervals count in that other test
    images might have been chosen, where it is known of each image which run was right.

    >>> from adaptune.results.row import RunRow
    >>> runs = [RunRow(m, "d", 0, {}, a, 1.0, home=a) for m, a in [("a", 2.0), ("b", 1.0)]]
    >>> found = versus(runs, "a", "b")
    >>> found.ood.mean, found.wins, found.ties, found.losses
    (1.0, 1, 0, 0)
    """
    pairs, known = pairs_of(runs, one, other), subjects or {}
    luck = {
        "id": image_luck(pairs, known, DRAWS, (HOME,)),
        "ood": image_luck(pairs, known, DRAWS),
    }
    home, away = (
        bootstrap(
            {key: [gap(one, place) for one in own] for key, own in pairs.items()}, luck[place]
        )
        for place in PLACES
    )
    every = [pair for own in pairs.values() for pair in own]
    gaps = [(gap(pair, "ood"), _tie(pair[1])) for pair in every]
    wins = sum(by > tie for by, tie in gaps)
    losses = sum(by < -tie for by, tie in gaps)
    images = count_subjects(pairs, known) if luck["ood"] else 0
    return Versus(one, other, home, away, wins, losses, len(gaps) - wins - losses, images)


def _tie(run: Ran) -> float:
    """Say how near to a run's score elsewhere another counts as level."""
    return run.measure.margin(TIE, run.measure.merit(reached(run, "ood")))


def pairs_of(runs: Sequence[Ran], one: str, other: str) -> dict[str, list[Pair]]:
    """Give the runs of two methods side by side, seed by seed, by the domain of training."""
    matches: dict[tuple[str, int], dict[str, Ran]] = {}
    for run in runs:
        matches.setdefault((run.domain, run.seed), {})[run.method] = run
    pairs: dict[str, list[Pair]] = {}
    for (domain, _), match in matches.items():
        if one in match and other in match:
            pairs.setdefault(domain, []).append((match[one], match[other]))
    return pairs


def gap(pair: Pair, place: Place) -> float:
    """Give by how much the first of two runs is better at a place."""
    one, other = (run.measure.merit(reached(run, place)) for run in pair)
    return one - other


def width(points: Sequence[tuple[float, float]], within: float = 3.0) -> float:
    """Give the width in decades of the rates whose merit is within some points of the best.

    ``points`` are rates and merits, of which more is better. Only the unbroken stretch around the
    best counts; its ends are interpolated on the logarithm of the rate, and a stretch that reaches
    the last rate tried ends there.

    >>> width([(0.01, 50.0), (0.1, 60.0), (1.0, 50.0)], within=5.0)
    1.0
    """
    x = np.log10([rate for rate, _ in points])
    y = np.asarray([merit for _, merit in points])
    order = np.argsort(x)
    x, y = x[order], y[order]
    top = int(y.argmax())
    bar = y[top] - within
    ends = []
    for step in (-1, 1):
        at = top
        while 0 <= at + step < len(x) and y[at + step] >= bar:
            at += step
        end = x[at]
        if 0 <= at + step < len(x):
            share = (y[at] - bar) / (y[at] - y[at + step])
            end = x[at] + share * (x[at + step] - x[at])
        ends.append(end)
    return float(ends[1] - ends[0])
