"""The table that people fill in: one line an image, its path and its label."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from pathlib import Path

from filelock import FileLock

from adaptune.data.names import class_finder, compose, first_few, printable
from adaptune.data.readers.manifest import read_csv
from adaptune.runtime.files import write_atomically

COLUMNS = ("path", "label")

BOM = b"\xef\xbb\xbf"
"""What some programs begin a table in UTF-8 with."""


class ConflictError(ValueError):
    """A label is not what it was taken for: somebody else wrote ``label``."""

    def __init__(self, label: str) -> None:
        super().__init__(f"somebody else wrote {label or 'nothing'} there since")
        self.label = label


class AnswerTable:
    """A CSV with the columns ``path,label``, and any others that people want.

    Whatever writes into it reads it first, while no other process does: nobody's answer is lost.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = FileLock(file.with_name(f".{file.name}.lock"))

    def known(
        self, names: Collection[str], classes: Sequence[str], *, others: bool = False
    ) -> dict[str, str]:
        """Read what stands in the table: the class of each image, "" where none does yet.

        Lines of ``others`` than ``names`` are passed over, or else refused.

        Raises:
            ValueError: If it is no such table, names what does not exist or contradicts itself.
        """
        columns, rows = self._rows()
        find = class_finder(classes)
        spelled = {compose(name): name for name in names}
        known: dict[str, str] = {}
        wrong: list[str] = []
        for where, values in rows:
            row = dict(zip(columns, values, strict=False))
            name, said = row.get("path", ""), row.get("label", "")
            name = name if name in names else spelled.get(compose(name), name)
            label = find(said)
            before = known.get(name, "")
            if others and name not in names:
                continue
            if len(values) > len(columns):
                wrong.append(f"{where} has {len(values)} values: quote values with commas")
            elif name not in names:
                wrong.append(f"{where}: no image of the target is called {printable(name)!r}")
            elif said.strip() and not label:
                wrong.append(f"{where}: no class is called {printable(said)!r}")
            elif label and before and label != before:
                wrong.append(f"{where}: {name} is {label}, and {before} in a line before")
            known[name] = label or before
        if wrong:
            raise ValueError(
                f"{self.file}, {first_few(wrong, '; ')}: mend it (the classes are "
                f"{first_few(list(classes))}) and go on with --resume; nothing is lost. An image "
                "of none of them cannot be labelled: take it out of the target and begin a new run"
            )
        return known

    def add(self, names: Sequence[str]) -> None:
        """Add lines without a label, leaving to the byte what stands in the table."""
        if not names:
            return
        with self._lock:
            self._append([(name, "") for name in names])

    def answer(self, name: str, label: str, before: str, classes: Sequence[str]) -> None:
        """Write the label of an image, "" to take it back, in the place of what was ``before``.

        What is there already is written once. The table is on the disk when this returns.

        Raises:
            ConflictError: If another label stands there; the table stays as it is.
            ValueError: If the table cannot be read.
            OSError: If it cannot be written; it is as it was then.
        """
        with self._lock:
            now = self.known([name], classes, others=True)
            if now.get(name, "") == label and name in now:
                return
            if now.get(name, "") != before:
                raise ConflictError(now.get(name, ""))
            if name in now:
                self._change(name, label)
            else:
                self._append([(name, label)])

    def _change(self, name: str, label: str) -> None:
        """Write all lines again, those of an image with its label; columns and ends stay."""
        columns, rows = self._rows()
        old = self.file.read_bytes()
        at, wanted = columns.index("label"), compose(name)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n" if b"\r\n" in old else "\n")
        writer.writerow(columns)
        for _, values in rows:
            own = [*values, *[""] * (len(columns) - len(values))]
            if compose(own[columns.index("path")]) == wanted:
                own[at] = label
            writer.writerow(own)
        mark = BOM if old.startswith(BOM) else b""
        write_atomically(self.file, mark + text.getvalue().encode())

    def _append(self, lines: Sequence[tuple[str, str]]) -> None:
        old = self.file.read_bytes() if self.file.exists() else b"path,label\n"
        end = "\r\n" if b"\r\n" in old else "\n"
        columns, _ = self._rows()
        text = io.StringIO()
        said = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        rows = [[one.get(column, "") for column in columns] for one in said]
        csv.writer(text, lineterminator=end).writerows(rows)
        gap = "" if old.endswith(b"\n") else end
        write_atomically(self.file, old + (gap + text.getvalue()).encode())

    def _rows(self) -> tuple[list[str], list[tuple[str, list[str]]]]:
        if not self.file.exists():
            return list(COLUMNS), []
        columns, rows = read_csv(self.file)
        if any(columns.count(name) != 1 for name in COLUMNS):
            raise ValueError(
                f"{self.file}, line 1: expected the columns {','.join(COLUMNS)}, separated by "
                f"commas, and found {printable(','.join(columns))!r}: mend it and go on with "
                "--resume"
            )
        return columns, rows
