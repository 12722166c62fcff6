"""What the values of masks mean: indices or colours, by a small table or by their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptune.data.labels.classes import classes_of
from adaptune.data.names import first_few, normal_name, printable
from adaptune.data.readers.manifest import read_csv
from adaptune.ops.places import BEYOND

IGNORE = 255
"""What stands in a mask where nothing is asked, in files without a table and in every label."""

STRAY = 254
"""What stands in a label where a mask holds what no class has; nothing is asked there either."""

MOST_CLASSES = BEYOND
COLOR = ("r", "g", "b")
NOTHING = ("", "ignore", "void", "unlabeled", "unlabelled")
"""Names, in any case, under which a table puts what is to be ignored."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class MaskTable:
    """Which value of a mask is which class: ``indices`` and ``colors`` to numbers of ``names``.

    Where it has neither, a mask's values are the numbers themselves and `IGNORE`.

    >>> MaskTable(("sky", "sea")).numbers(np.array([[0, 1, 7, 255]], np.uint8)).tolist()
    [[0, 1, 254, 255]]
    """

    names: tuple[str, ...]
    indices: Mapping[int, int] = field(default_factory=dict)
    colors: Mapping[Color, int] = field(default_factory=dict)

    def keeping(self, classes: Sequence[str]) -> MaskTable:
        """Give the table of some classes, in their order; others are ignored.

        Raises:
            ValueError: If a class is none of the table's.

        >>> table = MaskTable(("sky", "sea"), indices={3: 0, 5: 1}).keeping(["sea"])
        >>> table.names, table.indices
        (('sea',), {3: 255, 5: 0})
        """
        lacking = [name for name in classes if name not in self.names]
        if lacking:
            raise ValueError(
                f"the table of classes has no {first_few(lacking)}: it has {first_few(self.names)}"
            )
        own = {number: number for number in range(len(self.names))}
        indices = self.indices or ({} if self.colors else own)
        wanted = {self.names.index(name): number for number, name in enumerate(classes)}
        return MaskTable(
            tuple(classes),
            {value: wanted.get(number, IGNORE) for value, number in indices.items()},
            {value: wanted.get(number, IGNORE) for value, number in self.colors.items()},
        )

    def numbers(self, values: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Give the numbers (H, W) of indices (H, W), uint8: classes, `IGNORE`, `STRAY`."""
        known = self.indices or {number: number for number in range(len(self.names))}
        table = np.full(max(2**16, 1 + max(known, default=0)), STRAY, np.uint8)
        table[IGNORE] = IGNORE
        for value, number in known.items():
            table[value] = number
        narrow = values.dtype == np.uint8  # most are, and then all values are in the table
        found: NDArray[np.uint8] = table[values if narrow else np.clip(values, 0, len(table) - 1)]
        return found

    def numbers_of_colors(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Give the numbers (H, W) of colours (H, W, 3)."""
        wide = pixels.astype(np.int32)
        found, place = np.unique(
            (wide[..., 0] << 16) + (wide[..., 1] << 8) + wide[..., 2], return_inverse=True
        )
        known = {(r << 16) + (g << 8) + b: number for (r, g, b), number in self.colors.items()}
        numbers = np.array([known.get(int(one), STRAY) for one in found], np.uint8)
        return numbers[place].reshape(pixels.shape[:2])


def read_mask_table(file: Path) -> MaskTable:
    """Read a CSV of ``name,index`` or ``name,r,g,b``, a line a value; or names, one a line.

    Classes are numbered in the order in which their names come first, so values under one name are
    one class. Values under no name, or under ``ignore`` or ``void``, are ignored. Names alone are
    those of the indices from 0 on.

    Raises:
        ValueError: If there is no such file, or a line is none of these.
    """
    if not file.is_file():
        raise ValueError(f"no table of classes at {printable(file)}: see --label-table")
    head, rows = read_csv(file)
    columns = [column.strip().casefold() for column in head]
    if len(columns) == 1:
        names = classes_of([*head, *(values[0] for _, values in rows)])
        return MaskTable(_refuse_many(names, file))
    kind = ("index",) if "index" in columns else COLOR
    if not {"name", *kind} <= set(columns):
        raise ValueError(
            f"{file} has the columns {printable(','.join(head))}: expected name,index or "
            "name,r,g,b, or one name a line"
        )
    most = 2**16 if kind == ("index",) else 2**8
    numbers: dict[str, int] = {}
    known: dict[tuple[int, ...], int] = {}
    wrong: list[str] = []
    for where, values in rows:
        row = dict(zip(columns, values, strict=False))
        said = [row.get(one, "").strip() for one in kind]
        if not all(one.isdecimal() and int(one) < most for one in said):
            wrong.append(f"{where}: {printable(','.join(values))}")
            continue
        name = normal_name(row["name"])
        ignored = name.casefold() in NOTHING
        number = IGNORE if ignored else numbers.setdefault(name, len(numbers))
        known[tuple(map(int, said))] = number
    if wrong:
        raise ValueError(
            f"{file}, {first_few(wrong, '; ')}: expected a name and whole numbers below {most}"
        )
    names = _refuse_many(tuple(numbers), file)
    if kind == ("index",):
        return MaskTable(names, indices={one[0]: number for one, number in known.items()})
    return MaskTable(names, colors={(r, g, b): number for (r, g, b), number in known.items()})


def _refuse_many(names: tuple[str, ...], file: Path) -> tuple[str, ...]:
    if not 1 <= len(names) <= MOST_CLASSES:
        raise ValueError(f"{file} names {len(names)} classes: expected 1 to {MOST_CLASSES}")
    return names
