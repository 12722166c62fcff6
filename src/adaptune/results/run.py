"""What one run came to: all that stands in its ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from adaptune.results.row import (
    HOME,
    LabelFree,
    MeanDistortion,
    RunRow,
    given,
    known,
    part,
    reached_part,
    read_record,
)
from adaptune.results.score import Measure, Scores, number


@dataclass(frozen=True)
class Selection:
    """How the epoch was chosen, and what an oracle that sees labels would have gained."""

    by: str
    epoch: int
    oracle_epoch: int | None = None
    gap_to_oracle: float | None = None


@dataclass(frozen=True)
class Unasked:
    """What was reached on those images of the target whose labels nobody gave."""

    count: int
    before: float
    after: float


@dataclass(frozen=True)
class WrongAnswer:
    """One example that was surely wrong, in words; ``path`` where it is a file.

    Of a text, ``text`` is its beginning; ``shades`` say how much each of its words, between blanks,
    spoke for the answer and against the truth, as a share of the one that did most.
    """

    path: str | None
    label: str
    predicted: str
    confidence: float | None
    text: str = ""
    shades: Sequence[float] = ()

    @property
    def words(self) -> list[tuple[str, float]]:
        """The words of the text with their shades, 0 where there are none."""
        words = self.text.split()
        return list(zip(words, (*self.shades, *[0.0] * len(words)), strict=False))


@dataclass(frozen=True)
class Pictured:
    """One image that was drawn with its masks: as which ``kind``, and what it scores.

    ``file`` is the picture, relative to the run's folder.
    """

    path: str
    kind: str
    value: float
    file: str


@dataclass(frozen=True)
class Calibration:
    """What the threshold of an open set was found by: the share of images kept, of how many."""

    kept: float
    images: int


@dataclass(frozen=True)
class TargetImages:
    """Images without labels that were adapted to."""

    name: str
    images: int


@dataclass(frozen=True)
class DataSummary:
    """What there was to learn from and to test on: rows by set, files left out and why."""

    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    target: TargetImages | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResults:
    """All that is known of a finished run; what it reached follows from ``scores`` by test set.

    ``measure`` is what its main scores are of, ``val`` the one on ID validation of the chosen
    epoch. ``before`` holds what the network that it started from reaches, by test set; where its
    classes were made of ``words``, that is zero-shot. ``domain`` and ``base`` say in a comparison
    what it was trained on and by which method.
    """

    method: str
    seed: int
    best_epoch: int
    measure: Measure = field(default_factory=Measure)
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    batchnorm: str = "train"
    threshold: float = 1.0
    calibrated: Calibration | None = None
    val: float | None = None
    selection: Selection | None = None
    skipped_steps: int = 0
    asked: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    changes: Sequence[Mapping[str, Any]] = ()
    scores: Mapping[str, Scores] = field(default_factory=dict)
    unasked: Unasked | None = None
    distortions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    label_free: LabelFree = field(default_factory=dict)
    worst: Mapping[str, Sequence[WrongAnswer]] = field(default_factory=dict)
    pictures: Mapping[str, Sequence[Pictured]] = field(default_factory=dict)
    start: str = ""
    words: Sequence[str] = ()
    before: Mapping[str, float] = field(default_factory=dict)
    before_open_set: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    data: DataSummary = field(default_factory=DataSummary)
    seconds: float = 0.0
    config: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    base: str = ""

    @property
    def home(self) -> float | None:
        """The main score on the domain that was trained on, if it was tested."""
        return self.scores[HOME].main.value if HOME in self.scores else None

    @property
    def elsewhere(self) -> dict[str, float]:
        """The main scores on other domains, by test set."""
        return {test: one.main.value for test, one in self.scores.items() if test != HOME}

    @property
    def mean_elsewhere(self) -> float | None:
        """The mean of the main scores on other domains, if there are any."""
        ood = self.elsewhere
        return sum(ood.values()) / len(ood) if ood else None

    @property
    def shaded(self) -> bool:
        """Whether words of texts are told apart by what they spoke for."""
        return any(one.shades for own in self.worst.values() for one in own)

    @property
    def distortion(self) -> MeanDistortion | None:
        """How far features moved on the first test set, which is that at home if there is one."""
        for first in self.distortions.values():
            return MeanDistortion(1 - number(first["cosine"]), number(first["l2"]))
        return None

    def to_dict(self) -> dict[str, Any]:
        """Give the results as they stand in ``results.json``."""
        begun = self.start or self.before
        return {
            **part(self, "method", "seed", "options", "classes", "origin", "preprocess"),
            **part(self, "batchnorm", "threshold"),
            **given("calibrated", self.calibrated),
            "best_epoch": self.best_epoch,
            **given(self.measure.key("val"), self.val),
            **given("selection", self.selection),
            "skipped_steps": self.skipped_steps,
            **given("asked", self.asked or None),
            **part(self, "notes", "changes"),
            **reached_part(
                self.measure, self.home, self.elsewhere, self.mean_elsewhere, self.distortion
            ),
            "scores": {test: one.to_dict() for test, one in self.scores.items()},
            **given("unasked", self.unasked and _unasked(self.unasked, self.measure)),
            **part(self, "distortions", "label_free"),
            "worst": _as_dicts(self.worst),
            **given("pictures", _as_dicts(self.pictures) or None),
            **(part(self, "words") if self.words else {}),
            **(part(self, "start", "before", "before_open_set") if begun else {}),
            "data": known(self.data),
            **part(self, "seconds", "config", "machine"),
            "score": self.measure.to_dict(),
            **given("domain", self.domain or None),
            **given("base", self.base or None),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> RunResults:
        """Read results as `to_dict` gives them, those of earlier versions too."""
        measure = Measure.from_dict(found.get("score"))
        own = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        scores = found.get("scores", {})
        worst, drawn = found.get("worst", {}), found.get("pictures", {})
        return cls(
            **own
            | {
                "measure": measure,
                "val": found.get(measure.key("val")),
                "calibrated": read_record(Calibration, found.get("calibrated")),
                "selection": read_record(Selection, found.get("selection")),
                "scores": {test: Scores.from_dict(one, measure) for test, one in scores.items()},
                "unasked": _asked_of(found.get("unasked"), measure),
                "worst": {test: [WrongAnswer(**one) for one in own] for test, own in worst.items()},
                "pictures": {test: [Pictured(**one) for one in own] for test, own in drawn.items()},
                "data": _data(found.get("data", {})),
            }
        )

    def row(self, folder: Path) -> RunRow:
        """Give the row of a comparison that stands in ``folder``."""
        return RunRow(
            method=self.method,
            domain=self.domain,
            seed=self.seed,
            measure=self.measure,
            home=self.home,
            elsewhere=self.elsewhere,
            mean_elsewhere=self.mean_elsewhere,
            distortion=self.distortion,
            before=self.before,
            seconds=self.seconds,
            config=Path(self.config).relative_to(folder).as_posix(),
        )


def read_results(file: Path) -> RunResults:
    """Read the ``results.json`` of a run."""
    return RunResults.from_dict(json.loads(file.read_text()))


def _as_dicts(
    found: Mapping[str, Sequence[WrongAnswer]] | Mapping[str, Sequence[Pictured]],
) -> dict[str, list[dict[str, Any]]]:
    """Give them by test set; what only texts have is left out of others."""

    def plain(one: WrongAnswer | Pictured) -> dict[str, Any]:
        own, lean = asdict(one), ("text", "shades")
        return {key: value for key, value in own.items() if value or key not in lean}

    return {test: [plain(one) for one in own] for test, own in found.items()}


def _unasked(one: Unasked, measure: Measure) -> dict[str, float]:
    return {"count": one.count, "before": one.before, measure.name: one.after}


def _asked_of(found: Mapping[str, Any] | None, measure: Measure) -> Unasked | None:
    return Unasked(found["count"], found["before"], found[measure.name]) if found else None


def _data(found: Mapping[str, Any]) -> DataSummary:
    return DataSummary(**{**found, "target": read_record(TargetImages, found.get("target"))})
