"""Numbers that count: what a network reaches on one set, how sure that is, which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Score:
    """A number that counts, with its 95% interval and standard ``error``.

    ``better`` says which way; ranks, trials and epochs go by `merit`.

    >>> Score("mae", 0.5, 0.4, 0.6, unit="", better="lower").merit
    -0.5
    """

    name: str
    value: float
    low: float
    high: float
    error: float = 0.0
    unit: str = "percent"
    better: Literal["higher", "lower"] = "higher"

    @property
    def merit(self) -> float:
        """The value, turned so that more is better."""
        return self.value if self.better == "higher" else -self.value


@dataclass(frozen=True)
class Scores:
    """How well a network does on one set of ``count`` examples.

    ``main`` is what ranks, ``loss`` the mean of the task's loss. ``detail`` is what only the task
    knows, as JSON has it, such as a confusion matrix.
    """

    main: Score
    loss: float
    count: int
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the scores as JSON has them, the main one under its own name.

        >>> Scores(Score("accuracy", 50.0, 9.5, 90.5), 0.7, 2).to_dict()
        {'accuracy': 50.0, 'low': 9.5, 'high': 90.5, 'loss': 0.7, 'count': 2}
        """
        main = self.main
        return {
            main.name: main.value,
            "low": main.low,
            "high": main.high,
            "loss": self.loss,
            "count": self.count,
            **self.detail,
        }
