"""Which epoch of a run is tested: by validation, by a score without labels, or the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adaptune.data.domains import DomainData
from adaptune.results.score import Scores
from adaptune.selection import SCORES
from adaptune.tasks.task import Labelling, Task


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch so far; -1 before there is any.

    ``bar`` is the merit on ID validation that the next one must reach, ``val`` and ``loss`` what
    this one reached there, ``score`` its score without labels.
    """

    epoch: int = -1
    bar: float = -math.inf
    val: float | None = None
    loss: float | None = None
    score: float = -math.inf

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> BestEpoch:
        """Read what a checkpoint holds; earlier versions called what was reached an accuracy."""
        said = dict(found)
        return cls(**{"val": said.pop("accuracy", None), **said})


def best_by_validation(best: BestEpoch, epoch: int, scores: Scores) -> BestEpoch:
    """Choose between the best epoch so far and the next one, by the main score on ID validation.

    The next one wins if it lies within one standard error of the best so far, ``bar``.

    >>> from adaptune.results.score import Score
    >>> mains = [Score("accuracy", value, 0, 100, error=4.9) for value in (50.0, 60.0, 56.0, 54.0)]
    >>> seen = [Scores(main, 0.0, 100) for main in mains]
    >>> best = BestEpoch()
    >>> for epoch, scores in enumerate(seen):
    ...     best = best_by_validation(best, epoch, scores)
    >>> best.epoch, best.val, round(best.bar, 1)
    (2, 56.0, 55.1)
    """
    main = scores.main
    bar = max(best.bar, main.merit - main.error)
    if main.merit < bar:
        return replace(best, bar=bar)
    return BestEpoch(epoch, bar, main.value, scores.loss)


def best_by_score(best: BestEpoch, epoch: int, score: float) -> BestEpoch:
    """Choose between the best epoch so far and the next one, by a label-free score.

    The higher score wins, the later of two that are level; one that is not a number never does.
    Epoch 0 gives way to any other: before the first step a head may call everything one class, or
    every class as likely, and some scores take that for certainty.

    >>> best = best_by_score(best_by_score(BestEpoch(), 0, 0.9), 1, 0.5)
    >>> best_by_score(best, 2, 0.4).epoch, best_by_score(best, 2, 0.5).epoch
    (1, 2)
    """
    first = best.epoch <= 0
    if not first and not score >= best.score:
        return best
    told = -math.inf if math.isnan(score) else score
    return BestEpoch(epoch, score=told)


LAST = "last"


BY_VALIDATION = "id-validation"


OF_VALIDATION = (BY_VALIDATION, "made-shifts")
"""Scores that look at validation images of the source alone."""


OF_SOURCE = (
    *(*OF_VALIDATION, "iwv", "dev", "confidence-calibrated", "doc", "doc-calibrated"),
    *("atc", "atc-calibrated", "atc-entropy", "atc-entropy-calibrated"),
)
"""Scores that have no value without validation images of the source."""


OF_RUNS = ("distortion",)
"""Scores that compare runs: along one run they are highest before it begins."""


def selection_rule(name: str, data: DomainData, task: Task | None = None) -> str:
    """Say what chooses the epoch of a run of a task, given what was asked for.

    Without validation images, validation gives way to the last epoch. Without a task it is one of
    classes.

    Raises:
        ValueError: If there is no score of that name, it has nothing to look at, or it is of
            classes and the task has none.
    """
    if name not in (*SCORES, LAST):
        raise ValueError(f"no score {name!r} to select by: there are {', '.join((*SCORES, LAST))}")
    if name in OF_RUNS:
        raise ValueError(
            f"--select {name} would choose the first epoch of any run, for it compares runs: "
            f"select by one of {', '.join(n for n in (*SCORES, LAST) if n not in OF_RUNS)}"
        )
    validates = "val" in data.sets
    if name == LAST or (name == BY_VALIDATION and not validates):
        return LAST
    whole = task is None or (isinstance(task, Labelling) and not task.places)
    if name != BY_VALIDATION and not whole:
        raise ValueError(
            f"--select {name} is a score of classes, which {type(task).__name__} does not predict: "
            f"select by {BY_VALIDATION} or {LAST}"
        )
    if name in OF_SOURCE and not validates:
        raise ValueError(
            f"--select {name} needs validation images of the source, and there are none: pass "
            f"DATA, or select by one of {', '.join(n for n in SCORES if n not in OF_SOURCE)}"
        )
    if name not in OF_VALIDATION and not (data.ood or len(data.target)):
        raise ValueError(
            f"--select {name} needs images of another domain: give some with --ood or --target"
        )
    return name
