"""How much the choice of test images moves a score or a difference of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptune.results.row import RunRow
from adaptune.results.run import RunResults

Subjects = Mapping[str, Mapping[str, Sequence[str]]]
"""What the rows of a test set show, by training domain and test set."""

Draws = Mapping[str, NDArray[np.float64]]
"""What other test images would add to each seed's number: (draws, seeds) a training domain."""

Ran = RunResults | RunRow
Pair = tuple[Ran, Ran]
Cell = tuple[Ran] | Pair
"""A run whose score counts, or two whose difference does."""


def pack(right: NDArray[np.bool_]) -> str:
    """Write whether rows are right as text, four a character.

    >>> pack(np.array([True, False, True, False, True]))
    'a8'
    """
    return np.packbits(right).tobytes().hex()


def unpack(text: str, count: int) -> NDArray[np.bool_]:
    """Read what `pack` wrote of ``count`` rows.

    >>> unpack("a8", 5)
    array([ True, False,  True, False,  True])
    """
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def image_luck(
    cells: Mapping[str, Sequence[Cell]], subjects: Subjects, draws: int, tests: Sequence[str] = ()
) -> Draws:
    """Draw what other test images would have added to the score or difference of each cell.

    Subjects are drawn, as a bootstrap draws them, and bring all their images along: those in other
    test sets, and the same ones after training on other domains and with other seeds. The sum over
    many subjects is normal, so that is what is drawn, by the covariance that the cells have over
    subjects.

    Args:
        cells: Runs, or pairs of runs, by training domain, seed by seed.
        subjects: What the rows of test sets show.
        draws: How many.
        tests: The test sets that a score is the mean over; by default all but that at home.

    Returns:
        Nothing where it is not known of every image which run was right, and what it shows.
    """
    columns: dict[str, int] = {}
    moved: list[list[tuple[list[int], NDArray[np.float64]]]] = []
    for domain, own in cells.items():
        for cell in own:
            parts = []
            for test in tests or cell[0].elsewhere:
                shown = subjects.get(domain, {}).get(test, ())
                points = _points(cell, test)
                if not len(points) or len(points) != len(shown):
                    return {}
                places = [columns.setdefault(subject, len(columns)) for subject in shown]
                parts.append((places, (points - points.mean()) / len(points)))
            moved.append(parts)
    if not moved:
        return {}
    influence = np.zeros((len(moved), len(columns)))
    for row, parts in zip(influence, moved, strict=True):
        for places, values in parts:
            np.add.at(row, places, values / len(parts))
    drawn = np.random.default_rng(1).multivariate_normal(
        np.zeros(len(moved)), influence @ influence.T, draws, check_valid="ignore", method="eigh"
    )
    ends = np.cumsum([len(own) for own in cells.values()])[:-1]
    return dict(zip(cells, np.split(drawn, ends, axis=1), strict=True))


def count_subjects(pairs: Mapping[str, Sequence[Pair]], subjects: Subjects) -> int:
    """Count what other test sets than those at home show, all together."""
    sets = {(domain, test) for domain, [(one, _), *_] in pairs.items() for test in one.elsewhere}
    return len({shown for domain, test in sets for shown in subjects[domain][test]})


def _points(cell: Cell, test: str) -> NDArray[np.float64]:
    """Give what each row adds: 100 where a run is right, of two runs less that of the other.

    Nothing where that is not known.
    """
    first, *others = (100.0 * _right(run, test) for run in cell)
    if any(len(other) != len(first) for other in others):
        return np.zeros(0)
    return first - sum(others, np.zeros(len(first)))


def _right(run: Ran, test: str) -> NDArray[np.bool_]:
    found = run.scores.get(test) if isinstance(run, RunResults) else None
    if found is None or "right" not in found.detail:
        return np.zeros(0, bool)
    return unpack(found.detail["right"], found.count)
