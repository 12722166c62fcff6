"""What one trial of a search came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adaptune.results.score import Measure


@dataclass(frozen=True)
class Trial:
    """A trial: the values tried, how it ended, and what it reached on ID validation.

    ``state`` is optuna's, in small letters; what was pruned has the score it had reached.
    """

    number: int
    values: Mapping[str, float]
    state: str
    reached: float | None
    loss: float | None = None
    epochs: int = 0
    seconds: float | None = None
    diverged: bool = False
    measure: Measure = field(default_factory=Measure)

    @property
    def order(self) -> tuple[bool, float, float]:
        """What trials are ordered by: finished, of a good score, of a low loss.

        >>> one, other = (
        ...     Trial(0, {}, "complete", value, measure=Measure("mae", "", "lower"))
        ...     for value in (0.5, 0.7)
        ... )
        >>> one.order > other.order
        True
        """
        merit = -math.inf if self.reached is None else self.measure.merit(self.reached)
        known = self.loss is not None and math.isfinite(self.loss)
        return self.state == "complete", merit, -(self.loss or 0.0) if known else -math.inf

    def to_dict(self) -> dict[str, Any]:
        """Give the trial as JSON has it."""
        return {
            "number": self.number,
            "values": dict(self.values),
            "state": self.state,
            self.measure.name: self.reached,
            "loss": self.loss,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "diverged": self.diverged,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], measure: Measure) -> Trial:
        """Read a trial as JSON has it."""
        own = {key: value for key, value in found.items() if key != measure.name}
        return cls(**own, reached=found[measure.name], measure=measure)


def best_of(trials: Sequence[Trial]) -> Trial:
    """Choose the finished trial of the best score on ID validation; the lower loss decides ties.

    Raises:
        ValueError: If none finished.

    >>> best_of([Trial(at, {}, "complete", 50.0, loss) for at, loss in enumerate((2.0, 1.0))]).loss
    1.0
    """
    done = [trial for trial in trials if trial.state == "complete"]
    if not done:
        raise ValueError(
            "no trial came to an end: every one diverged or is still running elsewhere; search "
            "again, or give a smaller network or other ranges"
        )
    return max(done, key=lambda trial: trial.order)
