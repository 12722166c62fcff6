"""What a comparison keeps of a run, and what it is read from and written to as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from adaptune.results.score import Measure

HOME = "id"
"""What the test set of the domain that was trained on is called."""

LabelFree = Mapping[str, Mapping[str, float | None]]
"""Scores without labels by test set and name; None where one is not defined."""


@dataclass(frozen=True)
class MeanDistortion:
    """How far features moved: 1 less the mean cosine, and the mean Euclidean distance."""

    cosine: float
    l2: float


@dataclass(frozen=True)
class RunRow:
    """What a comparison keeps of a run; ``config`` is relative to the comparison's folder.

    Benchmarks keep more: the method that ``base`` names with its ``options``, the score ``val`` on
    ID validation at the best epoch, and scores without labels.
    """

    method: str
    domain: str
    seed: int
    elsewhere: Mapping[str, float]
    mean_elsewhere: float | None
    seconds: float
    measure: Measure = field(default_factory=Measure)
    home: float | None = None
    distortion: MeanDistortion | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    config: str = ""
    base: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    val: float | None = None
    best_epoch: int | None = None
    label_free: LabelFree = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the row as JSON has it."""
        more = {
            **part(self, "base", "options"),
            self.measure.key("val"): self.val,
            **part(self, "best_epoch", "label_free"),
        }
        return {
            "method": self.method,
            **given("domain", self.domain or None),
            "seed": self.seed,
            **reached_part(
                self.measure, self.home, self.elsewhere, self.mean_elsewhere, self.distortion
            ),
            **given("before", self.before or None),
            **part(self, "seconds", "config"),
            **(more if self.base else {}),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], measure: Measure | None = None) -> RunRow:
        """Read a row as JSON has it, of accuracies unless another measure is given."""
        measure = measure or Measure()
        own = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        return cls(
            **{"domain": ""}
            | own
            | {
                "measure": measure,
                "home": found.get(measure.key(HOME)),
                "elsewhere": found["ood"],
                "mean_elsewhere": found[measure.key("ood")],
                "distortion": read_record(MeanDistortion, found["distortion"]),
                "val": found.get(measure.key("val")),
            }
        )


def reached_part(
    measure: Measure,
    home: float | None,
    elsewhere: Mapping[str, float],
    mean_elsewhere: float | None,
    distortion: MeanDistortion | None,
) -> dict[str, Any]:
    """Give what a run reached, under the names that its measure has.

    >>> reached_part(Measure(), 50.0, {"b": 40.0}, 40.0, None)
    {'id_accuracy': 50.0, 'ood': {'b': 40.0}, 'ood_accuracy': 40.0, 'distortion': {}}
    """
    return {
        **given(measure.key(HOME), home),
        "ood": dict(elsewhere),
        measure.key("ood"): mean_elsewhere,
        "distortion": asdict(distortion) if distortion else {},
    }


def part(record: object, *names: str) -> dict[str, Any]:
    """Give some fields of a record."""
    return {name: getattr(record, name) for name in names}


def given(name: str, value: Any) -> dict[str, Any]:
    """Give a key with its value; nothing where there is none."""
    if value is None:
        return {}
    return {name: value if isinstance(value, str | int | float | Mapping) else known(value)}


def known(record: Any) -> dict[str, Any]:
    """Give a record as JSON has it, without what is None."""
    return {key: value for key, value in asdict(record).items() if value is not None}


def read_record(kind: type[Any], found: Mapping[str, Any] | None) -> Any:
    """Read a record of plain fields; None where there is none."""
    return kind(**found) if found else None
