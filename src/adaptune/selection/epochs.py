"""Which epoch of a run is tested: by validation, by a score without labels, or the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adaptune.data.domains import DomainData
from adaptune.results.score import Scores
from adaptune.selection import SCORES


def best_by_validation(best: Mapping[str, Any], epoch: int, scores: Scores) -> dict[str, Any]:
    """Choose between the best epoch so far and the next one, by the main score on ID validation.

    The next one wins if it lies within one standard error of the highest so far, ``bar``.

    >>> from adaptune.results.score import Score
    >>> mains = [Score("accuracy", value, 0, 100, error=4.9) for value in (50.0, 60.0, 56.0, 54.0)]
    >>> seen = [Scores(main, 0.0, 100) for main in mains]
    >>> best = {"epoch": -1, "accuracy": 0.0, "bar": 0.0}
    >>> for epoch, scores in enumerate(seen):
    ...     best = best_by_validation(best, epoch, scores)
    >>> best["epoch"], best["accuracy"], round(best["bar"], 1)
    (2, 56.0, 55.1)
    """
    main = scores.main
    bar = max(best["bar"], main.merit - main.error)
    if main.merit < bar:
        return {**best, "bar": bar}
    return {"epoch": epoch, "accuracy": main.value, "loss": scores.loss, "bar": bar}


def best_by_score(best: Mapping[str, Any], epoch: int, score: float) -> dict[str, Any]:
    """Choose between the best epoch so far and the next one, by a label-free score.

    The higher score wins, the later of two that are level; one that is not a number never does.
    Epoch 0 gives way to any other: before the first step a head may call everything one class, or
    every class as likely, and some scores take that for certainty.

    >>> best = best_by_score(best_by_score({"epoch": -1}, 0, 0.9), 1, 0.5)
    >>> best_by_score(best, 2, 0.4)["epoch"], best_by_score(best, 2, 0.5)["epoch"]
    (1, 2)
    """
    first = best["epoch"] <= 0
    if not first and not score >= best.get("score", -math.inf):
        return dict(best)
    told = -math.inf if math.isnan(score) else score
    return {"epoch": epoch, "bar": 0.0, "score": told}


LAST = "last"


BY_VALIDATION = "id-validation"


OF_SOURCE = (BY_VALIDATION, "iwv", "dev")
"""Scores that have no value without validation images of the source."""


def selection_rule(name: str, data: DomainData) -> str:
    """Say what chooses the epoch of a run, given what was asked for.

    Without validation images, validation gives way to the last epoch.

    Raises:
        ValueError: If there is no score of that name, or it has nothing to look at.
    """
    if name not in (*SCORES, LAST):
        raise ValueError(f"no score {name!r} to select by: there are {', '.join((*SCORES, LAST))}")
    validates = "val" in data.sets
    if name == LAST or (name == BY_VALIDATION and not validates):
        return LAST
    if name in OF_SOURCE and not validates:
        raise ValueError(
            f"--select {name} needs validation images of the source, and there are none: pass "
            f"DATA, or select by one of {', '.join(n for n in SCORES if n not in OF_SOURCE)}"
        )
    if name != BY_VALIDATION and not (data.ood or len(data.target)):
        raise ValueError(
            f"--select {name} needs images of another domain: give some with --ood or --target"
        )
    return name
