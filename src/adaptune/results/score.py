"""Numbers that count: what a network reaches on one set, how sure that is, which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Measure:
    """What a score is of: its name, its unit, and which way is better.

    >>> Measure().label("ID accuracy"), Measure("mae", "degrees", "lower").title
    ('ID accuracy, percent', 'mae in degrees, lower is better')
    """

    name: str = "accuracy"
    unit: str = "percent"
    better: Better = "higher"

    def merit(self, value: float) -> float:
        """Turn a value so that more is better."""
        return value if self.better == "higher" else -value

    def key(self, where: str) -> str:
        """Give the name in JSON of what is reached somewhere.

        >>> Measure().key("id")
        'id_accuracy'
        """
        return f"{where}_{self.name}"

    def number(self, value: float) -> str:
        """Write a value as tables have it, without its unit."""
        return f"{value:.1f}" if self.unit == "percent" else f"{value:.4g}"

    def text(self, value: float) -> str:
        """Write a value with its unit.

        >>> Measure().text(12.345), Measure("mae", "degrees", "lower").text(0.5)
        ('12.3%', '0.5 degrees')
        """
        unit = "%" if self.unit == "percent" else f" {self.unit}" * bool(self.unit)
        return self.number(value) + unit

    def label(self, what: str) -> str:
        """Give the label of an axis along which ``what`` is drawn."""
        return what + f", {self.unit}" * bool(self.unit) + self._direction

    @property
    def heading(self) -> str:
        """The name as a heading has it; one with capitals is left as it is.

        >>> Measure().heading, Measure("mIoU").heading
        ('Accuracy', 'mIoU')
        """
        return self.name.capitalize() if self.name.islower() else self.name

    @property
    def title(self) -> str:
        """The heading of a table of values."""
        return self.name + f" in {self.unit}" * bool(self.unit) + self._direction

    @property
    def _direction(self) -> str:
        return ", lower is better" if self.better == "lower" else ""

    @property
    def steps(self) -> str:
        """What differences are counted in."""
        return "points" if self.unit == "percent" else self.unit

    def margin(self, points: float, value: float) -> float:
        """Say how far from a value counts as near: points, or else hundredths of the value.

        >>> Measure().margin(3, 80.0), Measure("mae", "", "lower").margin(3, 2.0)
        (3, 0.06)
        """
        return points if self.unit == "percent" else points / 100 * abs(value)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any] | None) -> Measure:
        """Read a measure; files that name none are of accuracies."""
        return cls(**found) if found else cls()

    def to_dict(self) -> dict[str, str]:
        """Give the measure as JSON has it."""
        return asdict(self)


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
    better: Better = "higher"

    @property
    def measure(self) -> Measure:
        """What it is a score of."""
        return Measure(self.name, self.unit, self.better)

    @property
    def merit(self) -> float:
        """The value, turned so that more is better."""
        return self.measure.merit(self.value)


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

    @property
    def variance(self) -> float:
        """The squared standard error of the main score, in hundredths of its unit."""
        if self._is_share:
            share = self.main.value / 100
            return share * (1 - share) / self.count
        return (self.main.error / 100) ** 2

    @property
    def _is_share(self) -> bool:
        """Whether the main score is the share of examples that are right, in percent."""
        return self.main.error == share_error(self.main.measure, self.main.value, self.count)

    def to_dict(self) -> dict[str, Any]:
        """Give the scores as JSON has them, the main one under its own name.

        Its error is left out where it follows from value and count, as that of an accuracy does.

        >>> error = share_error(Measure(), 50.0, 2)
        >>> Scores(Score("accuracy", 50.0, 9.5, 90.5, error), 0.7, 2).to_dict()
        {'accuracy': 50.0, 'low': 9.5, 'high': 90.5, 'loss': 0.7, 'count': 2}
        """
        main = self.main
        return {
            main.name: main.value,
            "low": main.low,
            "high": main.high,
            **({} if self._is_share else {"error": main.error}),
            "loss": self.loss,
            "count": self.count,
            **self.detail,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], measure: Measure) -> Scores:
        """Read scores as `to_dict` gives them, or as JSON has them."""
        value, count = number(found[measure.name]), found["count"]
        error = number(found.get("error", share_error(measure, value, count)))
        low, high = number(found["low"]), number(found["high"])
        main = Score(measure.name, value, low, high, error, measure.unit, measure.better)
        own = (measure.name, "low", "high", "error", "loss", "count")
        detail = {key: one for key, one in found.items() if key not in own}
        return cls(main, number(found["loss"]), count, detail)


def share_error(measure: Measure, value: float, count: int) -> float:
    """Give the standard error of a share of ``count`` examples in percent; 0 for another measure.

    >>> share_error(Measure(), 50.0, 100)
    5.0
    """
    shares = measure.unit == "percent" and 0 <= value <= 100
    return math.sqrt(value * (100 - value) / count) if shares else 0.0


def number(value: float | None) -> float:
    """Read a number, which JSON has as null where it is none.

    >>> number(None)
    nan
    """
    return math.nan if value is None else value
