"""What each class came to, where every place has one: means over runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from adaptune.results.row import HOME
from adaptune.results.run import RunResults

Overlaps = list[float | None]
"""IoU by class in percent; None of a class that is nowhere."""


def overlap_by_class(runs: Sequence[RunResults]) -> dict[str, dict[str, Overlaps]]:
    """Give the mean IoU of each class by method, at home and elsewhere; nothing of other tasks.

    Each test set of each run counts alike; where a class is neither there nor predicted it counts
    nowhere.
    """
    found: dict[str, dict[str, Overlaps]] = {}
    for method in dict.fromkeys(run.method for run in runs):
        sets: dict[str, list[Overlaps]] = {}
        for run in (one for one in runs if one.method == method):
            for test, score in run.scores.items():
                if "iou" in score.detail:
                    where = "ID" if test == HOME else "elsewhere"
                    sets.setdefault(where, []).append(score.detail["iou"])
        if sets:
            found[method] = {where: _means(own) for where, own in sets.items()}
    return found


def _means(sets: Sequence[Overlaps]) -> Overlaps:
    """Average over sets, class by class.

    >>> _means([[50.0, None], [70.0, None]])
    [60.0, None]
    """
    known = ([one for one in own if one is not None] for own in zip(*sets, strict=True))
    return [mean(own) if own else None for own in known]
