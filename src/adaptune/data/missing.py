"""What keeps data from being trained on, in the words of whoever finds it first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adaptune.data.file_rows import FileRows
from adaptune.data.loading import RowSource
from adaptune.data.names import first_few, printable
from adaptune.data.sample import Unreadable
from adaptune.tasks.task import LabelKind
from adaptune.types import Split


def missing_parts(
    classes: Sequence[str], sets: Mapping[Split, RowSource], labels: LabelKind = "class"
) -> list[str]:
    """Say what the data of a run lack, before any image is read; nothing if all is there.

    >>> missing_parts(["cat", "dog"], {"train": [1], "val": [1], "test": []})[0][:24]
    'there are no test images'
    """
    said = [
        f"there are no {split} images: give the data a {split} folder, or more images, or "
        "a larger share (--val-share, --test-share)"
        for split, rows in sets.items()
        if not len(rows)
    ]
    if labels not in ("value", "text") and "train" in sets and len(classes) < 2:
        told = f"{', '.join(map(printable, classes)) or 'none'}{_below(sets['train'])}"
        said.insert(
            0, f"images of two or more classes are needed to tell apart, and there is {told}"
        )
    return said


def _below(rows: RowSource) -> str:
    """Say where the classes of a single class folder may be."""
    folders = {path.parent for path in rows.paths} if isinstance(rows, FileRows) else set()
    above = {folder.parent for folder in folders}
    if len(folders) < 2 or len(above) > 1:
        return ": give a folder of class folders, or a table with a label for each image"
    names = first_few(sorted(printable(folder.name) for folder in folders))
    return f", whose images lie in {names}: if these are the classes, give {printable(*above)}"


def refuse_unreadable(rows: RowSource, label: str) -> None:
    """Refuse a set of which no row can be read.

    Raises:
        ValueError: If that is so; it says why for the first.
    """
    first: Unreadable | None = None
    for row in range(len(rows)):
        item = rows[row, 0]
        if not isinstance(item, Unreadable):
            return
        first = first or item
    if first is not None:
        what = label.removeprefix("reading ")
        raise ValueError(
            f"none of the {len(rows)} {what} images could be read, the first of them being "
            f"{first.path}: {first.reason}"
        )
