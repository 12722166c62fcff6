"""Who labels the images of the target that a method asks for: nobody, an oracle, or people."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from adaptune.data.answer_table import AnswerTable
from adaptune.data.file_rows import FileRows
from adaptune.data.listing import Example, Listing
from adaptune.data.loading import RowSource
from adaptune.data.names import class_finder, first_few
from adaptune.data.questions import Questions, name_in_table
from adaptune.runtime.signals import Waiting

NAMED = 30
"""Classes up to which all are named in a sentence."""


class Annotator(Protocol):
    """Gives labels of the target's images; may raise `Waiting` until it has them."""

    def __call__(self, rows: Sequence[int], images: RowSource, classes: Sequence[str]) -> list[int]:
        """Give the class numbers of ``rows`` of ``images``, in their order.

        Of several processes only the first asks; it tells the others.
        """
        ...


class NoAnnotator:
    """Answers nothing."""

    def __call__(self, rows: Sequence[int], images: RowSource, classes: Sequence[str]) -> list[int]:
        """Refuse."""
        raise ValueError(
            f"{len(rows)} images of the target need labels and nobody gives them: pass --oracle "
            "where the target has them, or label them yourself in a run of adaptune fit; in "
            "Python, pass data with other answers"
        )


class OracleAnnotator:
    """Answers with labels that are known beforehand, by row: for experiments.

    >>> OracleAnnotator([2, 0, 1])([0, 2], [], ["a", "b", "c"])
    [2, 1]
    """

    def __init__(self, labels: Iterable[int]) -> None:
        self._labels = tuple(labels)

    def __call__(self, rows: Sequence[int], images: RowSource, classes: Sequence[str]) -> list[int]:
        """Look the labels up."""
        return [self._labels[row] for row in rows]


def oracle_of(classes: Sequence[str], target: Listing) -> OracleAnnotator:
    """Make an oracle of the target's own labels, which map to the classes by name.

    Raises:
        ValueError: If there is no target, or an image of it has no label among the classes.

    >>> target = Listing("wild", (Example(Path("1.png"), "Dog"),), ("Dog",))
    >>> oracle_of(["cat", "dog"], target)([0], [], ["cat", "dog"])
    [1]
    """
    if not target.examples:
        raise ValueError(
            "--oracle answers with the labels of the target, and there is none: pass --target DIR"
        )
    find, number = class_finder(classes), {name: row for row, name in enumerate(classes)}
    found = [find(example.label) for example in target.examples]
    if not all(found):
        raise ValueError(
            f"--oracle answers with the labels of the target, and {found.count('')} of the "
            f"{len(found)} images of {target.name} have none among the classes "
            f"({first_few(list(classes))}), so nothing could be said of them: take them out of the "
            "target, or where they are of these classes after all leave out --oracle and label "
            "what is asked for yourself"
        )
    return OracleAnnotator(number[name] for name in found)


def show_nothing(page: Path, images: Sequence[Example], classes: Sequence[str]) -> None:
    """Write no page."""


class PeopleAnnotator:
    """Answers are filled in by people, in a CSV with the columns ``path,label``.

    The table is read whenever labels are asked for. Images that are not in it are added, without
    a label; what stands there already stays as it is. What is asked stands in a record beside it,
    ``.json``, until it is answered.

    Args:
        table: The CSV.
        show: Writes a page, beside the table, of images that have no label yet.
    """

    def __init__(
        self,
        table: Path,
        show: Callable[[Path, Sequence[Example], Sequence[str]], None] = show_nothing,
    ) -> None:
        self.table, self.page, self.show = table, table.with_suffix(".html"), show
        self.record = table.with_suffix(".json")

    def __call__(self, rows: Sequence[int], images: RowSource, classes: Sequence[str]) -> list[int]:
        """Look the labels up in the table, by the images' files.

        Raises:
            Waiting: If some are not there yet.
            ValueError: If the images have no files, or the table is damaged or contradicts itself.
        """
        if not isinstance(images, FileRows):
            raise ValueError("people cannot be asked for labels of images without files")
        names = [name_in_table(images.paths[row]) for row in rows]
        table = AnswerTable(self.table)
        known = table.known({name_in_table(path) for path in images.paths}, classes)
        open_ = {name: row for name, row in zip(names, rows, strict=True) if not known.get(name)}
        if open_:
            table.add([name for name in open_ if name not in known])
            asked = dict(zip(names, rows, strict=True)).values()
            Questions(tuple(_example(images, row) for row in asked), tuple(classes)).save(
                self.record
            )
            self.show(self.page, [_example(images, row) for row in open_.values()], classes)
            raise Waiting(0, self._wish(len(open_), len(set(names)), classes))
        for file in (self.page, self.record):
            file.unlink(missing_ok=True)
        number = {name: row for row, name in enumerate(classes)}
        return [number[known[name]] for name in names]

    def _wish(self, missing: int, asked: int, classes: Sequence[str]) -> str:
        """Say which labels are wanted, and where."""
        wanted = f"{missing} of {asked} labels are still missing"
        if missing == asked:
            wanted = f"the method asks for {asked} labels"
        said = ", ".join(classes) if len(classes) <= NAMED else first_few(list(classes))
        shown = f" ({self.page} shows the images and all classes)" if self.page.is_file() else ""
        page = f"adaptune label {shlex.quote(str(self.table.parent))}"
        return (
            f"{wanted}: write one of {said} behind each path in {self.table}{shown}, or answer "
            f"in a browser: {page}"
        )


def _example(images: FileRows, row: int) -> Example:
    return replace(images.examples[row], path=images.paths[row].absolute(), split=None)
