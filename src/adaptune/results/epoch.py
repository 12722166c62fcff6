"""What one epoch came to: a line of a run's ``metrics.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptune.results.score import Measure, number


@dataclass(frozen=True)
class EpochMetrics:
    """The terms of the loss, and what the epoch was judged by.

    ``val`` is the main score on ID validation, ``score`` one without labels and ``oracle`` what
    labels tell of the same images; each where it is known.
    """

    epoch: int
    seconds: float
    terms: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0
    val: float | None = None
    score: float | None = None
    oracle: float | None = None

    @property
    def loss(self) -> float:
        """The sum of the terms; NaN where there is none.

        >>> EpochMetrics(1, 3.0, {"task": 0.5, "transfer": 0.25}, skipped=2).loss
        0.75
        """
        return sum(self.terms.values()) if self.terms else math.nan

    def to_dict(self, measure: Measure) -> dict[str, Any]:
        """Give the line as JSON has it."""
        known = {
            "skipped": self.skipped or None,
            measure.key("val"): self.val,
            "score": self.score,
            measure.key("oracle"): self.oracle,
        }
        given = {key: value for key, value in known.items() if value is not None}
        return {"epoch": self.epoch, **self.terms, **given, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], measure: Measure) -> EpochMetrics:
        """Read a line; what has no name of its own in it is a term.

        >>> EpochMetrics.from_dict({"epoch": 1, "task": 0.5, "seconds": 3.0}, Measure()).terms
        {'task': 0.5}
        """
        val, oracle = measure.key("val"), measure.key("oracle")
        own = ("epoch", "seconds", "skipped", "score", val, oracle)
        score = number(found["score"]) if "score" in found else None
        return cls(
            found["epoch"],
            found["seconds"],
            {name: number(value) for name, value in found.items() if name not in own},
            found.get("skipped", 0),
            found.get(val),
            score,
            found.get(oracle),
        )
