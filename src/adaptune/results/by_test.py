"""What methods reach on each test set, and how far the best is ahead there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from adaptune.results.images import Pair, Ran, Subjects, image_luck
from adaptune.results.ranking import DRAWS, bootstrap, pairs_of
from adaptune.results.summary import Interval


@dataclass(frozen=True)
class OnSet:
    """What methods reach on one test set after training on one domain, means over seeds.

    ``gaps`` are how much better the ``best`` of all methods is there than each other one.
    """

    trained: str
    tested: str
    best: str
    reached: Mapping[str, float]
    gaps: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> OnSet:
        """Read it as JSON has it."""
        gaps = {name: Interval(**one) for name, one in found["gaps"].items()}
        return cls(**{**found, "gaps": gaps})


def by_test(runs: Sequence[Ran], best: str, subjects: Subjects | None = None) -> list[OnSet]:
    """Compare the best method with all others on each test set.

    Intervals are of 95% over seeds and, with ``subjects``, over test images; see `versus`.

    >>> from adaptune.results.row import RunRow
    >>> runs = [RunRow(m, "d", 0, {"x": a}, a, 1.0) for m, a in [("a", 2.0), ("b", 1.0)]]
    >>> [one] = by_test(runs, "a")
    >>> one.tested, one.reached, one.gaps["b"].mean
    ('x', {'a': 2.0, 'b': 1.0}, 1.0)
    """
    names = list(dict.fromkeys(run.method for run in runs))
    found = []
    for domain in dict.fromkeys(run.domain for run in runs):
        own = [run for run in runs if run.domain == domain]
        for test in own[0].elsewhere:
            reached = {
                name: mean(run.elsewhere[test] for run in own if run.method == name)
                for name in names
            }
            others = [name for name in names if name != best]
            gaps = {name: _gap(own, best, name, test, subjects or {}) for name in others}
            found.append(OnSet(domain, test, best, reached, gaps))
    return found


def _gap(runs: Sequence[Ran], best: str, other: str, test: str, subjects: Subjects) -> Interval:
    """Give by how much the best is better on a test set after training on one domain."""
    pairs = pairs_of(runs, best, other)
    gaps = {name: [_better(pair, test) for pair in own] for name, own in pairs.items()}
    return bootstrap(gaps, image_luck(pairs, subjects, DRAWS, (test,)))


def _better(pair: Pair, test: str) -> float:
    one, other = (run.measure.merit(run.elsewhere[test]) for run in pair)
    return one - other
