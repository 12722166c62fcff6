"""What the word beside an example means: the label of its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor

from adaptune.data.labels.classes import ClassLabels
from adaptune.data.labels.mask_table import MaskTable
from adaptune.data.labels.masks import MaskLabels
from adaptune.data.labels.tags import TagLabels
from adaptune.data.labels.texts import TextLabels
from adaptune.data.labels.values import ValueLabels
from adaptune.data.listing import Example, Listing
from adaptune.tasks.task import LabelKind


class LabelReader(Protocol):
    """Makes the label of one row, of a word or of what is in memory.

    ``made`` says what `read` gives of a file, uint8 (H, W), for the cache; it is "" where no file
    is read.
    """

    made: str

    def read(self, example: Example) -> Tensor:
        """Give the label of an example that was kept, one row of ``y``.

        Raises:
            OSError: If it lies in a file that cannot be read; the message says why.
        """
        ...

    def told(self, example: Example) -> Any:
        """Give what tells the label of an example from others, in plain numbers or words.

        No file is read for it.
        """
        ...

    def given(self, value: Any) -> Tensor:
        """Give the label that a data set has in memory, one row of ``y``.

        Raises:
            ValueError: If it is none.
        """
        ...


class Labels(LabelReader, Protocol):
    """Makes labels, and says which examples of a domain have one.

    ``names`` are what the columns of an output are called.
    """

    names: tuple[str, ...]

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Give what of a domain is trained on, and notes on what is not.

        What is ``further`` comes from another source than the names do.

        Raises:
            ValueError: If a label cannot be read, or nothing is left.
        """
        ...

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say what is odd about the labels of all that is trained on."""
        ...

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Give what of another domain is tested, and notes; subjects that were ``trained`` are not.

        Raises:
            ValueError: If a label cannot be read.
        """
        ...

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        ...


class NoLabels:
    """The labels of what nobody may see labels of: all are 0."""

    made = ""

    def read(self, example: Example) -> Tensor:
        """Give 0."""
        return torch.tensor(0)

    def told(self, example: Example) -> int:
        """Give 0."""
        return 0

    def given(self, value: Any) -> Tensor:
        """Give 0, whatever is there."""
        return torch.tensor(0)


def labels_of(
    kind: LabelKind,
    names: Sequence[str],
    *,
    open_set: bool = False,
    table: MaskTable | None = None,
) -> Labels:
    """Give what reads the labels of a kind; for values ``names`` are those of the values.

    What the values of masks mean is said by a ``table``, or else by the order of the names.

    Raises:
        ValueError: If these cannot have an open set, or the table lacks a name.
    """
    match kind:
        case "class":
            return ClassLabels(names, open_set=open_set)
        case "mask":
            if open_set:
                raise ValueError("masks have no unknown class: leave out --open-set")
            named = MaskTable(tuple(names))
            return MaskLabels(table.keeping(names) if table is not None else named)
        case "tags":
            if open_set:
                raise ValueError("tags have no unknown class: leave out --open-set")
            return TagLabels(names)
        case "value":
            if open_set:
                raise ValueError("values have no unknown class: leave out --open-set")
            return ValueLabels(names)
        case "text":
            if open_set:
                raise ValueError("texts have no unknown class: leave out --open-set")
            return TextLabels()
        case _:
            assert_never(kind)
