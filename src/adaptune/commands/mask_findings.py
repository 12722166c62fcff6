"""What `adaptune doctor` says of masks: pixels by class, and what is odd about some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from adaptune.data.domains import DomainData
from adaptune.data.file_rows import FileRows
from adaptune.data.labels.mask_table import IGNORE, STRAY
from adaptune.data.names import first_few, printable

IGNORED, NO_CLASS = "(ignored)", "(of no class)"
"""What pixels are counted as that are of none of the classes."""

Counts = dict[str, dict[str, int]]
"""By set and class."""


def pixel_counts(classes: Sequence[str], sets: Mapping[str, FileRows]) -> tuple[Counts, list[str]]:
    """Count the pixels of each class in each set, and say which masks are odd; all are read.

    Masks that cannot be read are left to whoever reads images.
    """
    named = {**dict(enumerate(classes)), IGNORE: IGNORED, STRAY: NO_CLASS}
    counts: Counts = {}
    stray: list[str] = []
    empty: list[str] = []
    for name, rows in sets.items():
        counted: Counter[str] = Counter()
        for example in rows.examples:
            try:
                often = rows.meaning.read(example).flatten().bincount(minlength=1)
            except OSError:
                continue
            own = {int(value): int(often[value]) for value in often.nonzero()}
            counted.update({named[value]: number for value, number in own.items()})
            mask = printable(example.label)
            if STRAY in own:
                stray.append(f"{mask} ({own[STRAY]} pixels)")
            if not own.keys() - {IGNORE, STRAY}:
                empty.append(mask)
        counts[name] = dict(counted)
    return counts, _said(classes, counts, stray, empty)


def _said(
    classes: Sequence[str], counts: Counts, stray: Sequence[str], empty: Sequence[str]
) -> list[str]:
    said = []
    if stray:
        said.append(
            f"{len(stray)} masks have values of no class, which are ignored: {first_few(stray)}; "
            "say what they are with --label-table"
        )
    if empty:
        said.append(
            f"{len(empty)} masks are ignored as a whole, so their images teach nothing: "
            f"{first_few(empty)}"
        )
    lacking = [name for name in classes if not counts.get("train", {}).get(name)]
    if lacking:
        said.append(f"classes without a training pixel: {', '.join(lacking)}")
    return said


def shares(counts: Counts, classes: Sequence[str]) -> list[list[str]]:
    """Write counts as rows of a table, in percent of each set's pixels.

    >>> shares({"train": {"sky": 3, IGNORED: 1}}, ["sky"])
    [['sky', '75.00'], ['(ignored)', '25.00'], ['(of no class)', '0.00']]
    """
    totals = {name: max(1, sum(one.values())) for name, one in counts.items()}
    return [
        [label, *(f"{100 * one.get(label, 0) / totals[name]:.2f}" for name, one in counts.items())]
        for label in (*classes, IGNORED, NO_CLASS)
    ]


def without_labels(data: DomainData, sets: Mapping[str, FileRows]) -> Mapping[str, FileRows]:
    """Give sets without masks, tags or partners, which are each row's own; others as they are."""
    if data.labels not in ("mask", "tags", "text"):
        return sets
    return {
        name: FileRows(
            [replace(one, label="", label_part=None) for one in rows.examples],
            rows.input,
            rows.meaning,
        )
        for name, rows in sets.items()
    }
