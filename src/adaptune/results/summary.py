"""What several runs say together: rows, means over seeds, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student


def row_of(results: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Take from a run's results what stands in a comparison's ``rows``.

    ``config`` is the run's config file, relative to the comparison's folder.
    """
    keys = ("method", "domain", "seed", "id_accuracy", "ood", "ood_accuracy", "distortion")
    config = Path(results["config"]).relative_to(folder).as_posix()
    row = {key: results[key] for key in (*keys, "before", "seconds") if key in results}
    return row | {"config": config}


def summarize(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give each method's means over seeds, in the order of the runs, with 95% intervals.

    Accuracies are in percent. With two seeds or more the interval is Student's over seeds; with
    one it is that of the share of images that one run got right. What no run was tested on is None:
    ``id`` without a source, ``ood`` without other domains, ``distortion`` without either.
    ``open_set`` holds the means of each open set's scores, by name.
    """
    names = list(dict.fromkeys(run["method"] for run in runs))
    return [_summary(name, [run for run in runs if run["method"] == name]) for name in names]


def _summary(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tests = list(runs[0]["scores"])
    others = [test for test in tests if test != "id"]
    spread = {test: _over(runs, [test]) for test in tests}
    return {
        "method": name,
        "seeds": len(runs),
        "id": spread.get("id"),
        "ood": _over(runs, others) if others else None,
        "domains": {test: spread[test] for test in others},
        "open_set": _open_sets(runs),
        "distortion": mean(run["distortion"]["cosine"] for run in runs) if tests else None,
        "seconds": mean(run["seconds"] for run in runs),
    }


def _open_sets(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Average what runs reached on test sets with known and unknown images, by test set."""
    scored = [{test: one.get("open_set") for test, one in run["scores"].items()} for run in runs]
    return {
        test: {key: mean(one[test][key] for one in scored) for key in found}
        for test, found in scored[0].items()
        if found
    }


def _over(runs: Sequence[Mapping[str, Any]], tests: Sequence[str]) -> dict[str, float]:
    """Average over test sets, then over seeds."""
    values = [mean(run["scores"][test]["accuracy"] for test in tests) for run in runs]
    if len(values) > 1:
        found = interval(values)
    else:
        scores = [runs[0]["scores"][test] for test in tests]
        shares = [(score["accuracy"] / 100, score["count"]) for score in scores]
        variance = sum(p * (1 - p) / n for p, n in shares) / len(shares) ** 2
        found = _around(values[0], 196 * math.sqrt(variance))
    return found | {"low": max(0.0, found["low"]), "high": min(100.0, found["high"])}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Give the mean of two values or more with Student's 95% interval.

    >>> interval([1.0, 1.0])
    {'mean': 1.0, 'low': 1.0, 'high': 1.0}
    """
    error = stdev(values) / math.sqrt(len(values))
    return _around(mean(values), float(student.ppf(0.975, len(values) - 1)) * error)


def _around(middle: float, reach: float) -> dict[str, float]:
    return {"mean": middle, "low": middle - reach, "high": middle + reach}


def paired(
    runs: Sequence[Mapping[str, Any]], one: str, other: str, key: str
) -> dict[str, float] | None:
    """Give the mean difference of two methods over the seeds that both have, with its interval.

    >>> rows = [{"method": m, "seed": s, "id_accuracy": a} for m, s, a in
    ...         [("a", 0, 3.0), ("a", 1, 4.0), ("b", 0, 1.0), ("b", 1, 2.0)]]
    >>> paired(rows, "a", "b", "id_accuracy")
    {'mean': 2.0, 'low': 2.0, 'high': 2.0}
    """
    values = {(run["method"], run["seed"]): run[key] for run in runs}
    seeds = {seed for method, seed in values if method == one}
    both = [(one, other, seed) for seed in sorted(seeds) if (other, seed) in values]
    gaps = [values[a, seed] - values[b, seed] for a, b, seed in both]
    return interval(gaps) if len(gaps) > 1 else None
