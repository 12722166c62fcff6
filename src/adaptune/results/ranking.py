"""Who wins over several domains and seeds: means with bootstrap intervals, ranks, wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

DRAWS = 10_000
TIE = 0.5
"""Points of accuracy up to which two runs count as level."""

Runs = Sequence[Mapping[str, Any]]


def bootstrap(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Give the mean over domains of the means over seeds, with its 95% bootstrap interval.

    ``values`` holds one number a seed for each domain. Domains are drawn with replacement, then
    seeds within each (Davison and Hinkley, 1997, two-level resampling), so that the interval speaks
    of other domains too, not of other seeds alone. With few domains it is still somewhat short.

    >>> bootstrap({"a": [1.0, 1.0], "b": [3.0, 3.0]})
    {'mean': 2.0, 'low': 1.0, 'high': 3.0}
    """
    random = np.random.default_rng(0)
    groups = [np.asarray(group, dtype=float) for group in values.values()]
    # (domain, draw, place): a fresh draw of seeds for each place; domains may differ in seeds
    drawn = [g[random.integers(len(g), size=(DRAWS, len(groups), len(g)))] for g in groups]
    means = np.stack([seeds.mean(2) for seeds in drawn])
    chosen = random.integers(len(groups), size=(DRAWS, len(groups)))
    draws = np.arange(DRAWS)[:, None]
    samples = means[chosen, draws, np.arange(len(groups))].mean(1)
    low, high = np.percentile(samples, [2.5, 97.5])
    return {"mean": mean(float(g.mean()) for g in groups), "low": float(low), "high": float(high)}


def by_domain(runs: Runs, key: str) -> dict[str, list[float]]:
    """Group one measure of runs by the domain that they were trained on."""
    groups: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault(run["domain"], []).append(run[key])
    return groups


def comparable(runs: Runs) -> Runs:
    """Keep what can be compared: the domains and seeds that every method has a run of.

    Where no domain and seed has all methods, the method with the fewest runs is left out, until
    one has.

    >>> runs = [{"method": m, "domain": d, "seed": 0} for m, d in [("a", 1), ("a", 2), ("b", 2)]]
    >>> [(run["method"], run["domain"]) for run in comparable(runs)]
    [('a', 2), ('b', 2)]
    """
    ran: dict[str, set[tuple[str, int]]] = {}
    for run in runs:
        ran.setdefault(run["method"], set()).add((run["domain"], run["seed"]))
    while not (shared := set.intersection(*ran.values())):
        del ran[min(ran, key=lambda name: len(ran[name]))]
    return [r for r in runs if r["method"] in ran and (r["domain"], r["seed"]) in shared]


def across(runs: Runs) -> list[dict[str, Any]]:
    """Give each method's means over domains and seeds, in the order of the runs.

    ``domains`` holds the mean accuracy elsewhere by training domain, ``rank`` the mean place among
    the methods, 1 the best, over training domains and seeds.
    """
    places = ranks(runs)
    summary = []
    for name in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == name]
        elsewhere = by_domain(own, "ood_accuracy")
        summary.append(
            {
                "method": name,
                "seeds": max(map(len, elsewhere.values())),
                "id": bootstrap(by_domain(own, "id_accuracy")),
                "ood": bootstrap(elsewhere),
                "domains": {key: bootstrap({key: few}) for key, few in elsewhere.items()},
                "distortion": mean(run["distortion"]["cosine"] for run in own),
                "seconds": mean(run["seconds"] for run in own),
                "rank": places[name],
            }
        )
    return summary


def ranks(runs: Runs) -> dict[str, float]:
    """Give each method's mean place by accuracy elsewhere, over domains and seeds; 1 is the best.

    Methods that are level share their mean place.

    >>> ranks([{"method": m, "domain": "d", "seed": 0, "ood_accuracy": a}
    ...        for m, a in [("a", 2.0), ("b", 1.0), ("c", 2.0)]])
    {'a': 1.5, 'b': 3.0, 'c': 1.5}
    """
    places: dict[str, list[float]] = {}
    for match in _matches(runs).values():
        for name, value in match.items():
            above = sum(other > value for other in match.values())
            level = sum(other == value for other in match.values())
            places.setdefault(name, []).append(above + (level + 1) / 2)
    return {name: mean(own) for name, own in places.items()}


def _matches(runs: Runs, key: str = "ood_accuracy") -> dict[tuple[str, int], dict[str, float]]:
    """Group one measure by domain and seed, then by method."""
    matches: dict[tuple[str, int], dict[str, float]] = {}
    for run in runs:
        matches.setdefault((run["domain"], run["seed"]), {})[run["method"]] = run[key]
    return matches


def versus(runs: Runs, one: str, other: str) -> dict[str, Any]:
    """Compare two methods over the domains and seeds that both have.

    Gives the paired difference of accuracy at home (``id``) and elsewhere (``ood``) with its 95%
    bootstrap interval, and how often ``one`` wins, ties (up to half a point) and loses elsewhere.

    >>> runs = [{"method": m, "domain": "d", "seed": 0, "id_accuracy": a, "ood_accuracy": a}
    ...         for m, a in [("a", 2.0), ("b", 1.0)]]
    >>> found = versus(runs, "a", "b")
    >>> found["ood"]["mean"], found["wins"], found["ties"], found["losses"]
    (1.0, 1, 0, 0)
    """
    found: dict[str, Any] = {"one": one, "other": other}
    gaps: dict[str, list[float]] = {}
    for name, key in (("id", "id_accuracy"), ("ood", "ood_accuracy")):
        gaps = {}
        for (domain, _), match in _matches(runs, key).items():
            if one in match and other in match:
                gaps.setdefault(domain, []).append(match[one] - match[other])
        found[name] = bootstrap(gaps)
    every = [gap for own in gaps.values() for gap in own]
    found["wins"] = sum(gap > TIE for gap in every)
    found["losses"] = sum(gap < -TIE for gap in every)
    found["ties"] = len(every) - found["wins"] - found["losses"]
    return found


def width(points: Sequence[tuple[float, float]], within: float = 3.0) -> float:
    """Give the width in decades of the rates whose accuracy is within some points of the best.

    ``points`` are rates and accuracies. Only the unbroken stretch around the best counts; its ends
    are interpolated on the logarithm of the rate, and a stretch that reaches the last rate tried
    ends there.

    >>> width([(0.01, 50.0), (0.1, 60.0), (1.0, 50.0)], within=5.0)
    1.0
    """
    x = np.log10([rate for rate, _ in points])
    y = np.asarray([accuracy for _, accuracy in points])
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
