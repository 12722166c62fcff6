"""Any torch data set as rows: what its items hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from adaptune.data.inputs import Input
from adaptune.data.labels import LabelReader
from adaptune.data.sample import Sample, Unreadable, WrongItemError, seeded, shown

IMAGES = ("image", "img", "pixel_values")
LABELS = ("label", "labels")
"""What the fields of an item that is a dict are called."""


class DatasetRows(Dataset[Sample | Unreadable]):
    """A torch data set, seen as rows that are asked for by row and seed.

    Items are pairs (image, label) or dicts of both.

    Args:
        data: The data set.
        reader: Makes inputs of images.
        meaning: Makes labels of what stands beside them.
        name: What the set is called where something is wrong with it.
        labeled: Whether labels are looked at.
    """

    def __init__(
        self,
        data: Dataset[Any],
        reader: Input,
        meaning: LabelReader,
        *,
        name: str,
        labeled: bool = True,
    ) -> None:
        self.data, self.input, self.meaning = data, reader, meaning
        self.name, self.labeled = name, labeled

    def through(self, reader: Input) -> DatasetRows:
        """Give the same rows through another input."""
        other = copy(self)
        other.input = reader
        return other

    def under(self, meaning: LabelReader) -> DatasetRows:
        """Give the same rows under labels that are read in another way."""
        other = copy(self)
        other.meaning = meaning
        return other

    @cached_property
    def labels(self) -> list[int]:
        """The class of each row, for which every item is read once.

        Raises:
            ValueError: If an item or its label cannot be read.
        """
        found = []
        for row in range(len(self)):
            try:
                with seeded(0):
                    found.append(int(self.meaning.given(self._parts(self.data[row])[1])))
            except (OSError, ValueError, SyntaxError, WrongItemError) as error:
                raise ValueError(f"row {row} of {self.name} has no class: {error}") from error
        return found

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        with seeded(seed):
            try:
                item = self.data[row]
                image, said = self._parts(item)
                x = self.input.given(image)
            except (OSError, ValueError, SyntaxError) as error:
                reason = str(error) or "the data set could not give it and did not say why"
                return Unreadable(f"row {row}", reason)
            except WrongItemError as error:
                return Unreadable(f"row {row} of {self.name}", str(error), stops=True)
        try:
            return x, self.meaning.given(said), row
        except ValueError as error:
            return Unreadable(f"row {row} of {self.name}", str(error), stops=True)

    def _parts(self, item: Any) -> tuple[Any, Any]:
        """Find the image and the label of an item; a set without labels has images alone."""
        if isinstance(item, Mapping):
            image = _field(item, IMAGES)
            return image, _field(item, LABELS) if self.labeled else None
        if isinstance(item, tuple | list) and len(item) > self.labeled:
            return item[0], item[1] if self.labeled else None
        if self.labeled:
            raise WrongItemError(
                f"it is {shown(item)} and should be a pair (image, label), or a dict with "
                f"{' or '.join(IMAGES)} and {' or '.join(LABELS)}: wrap the data set in one that "
                "gives such items"
            )
        return item, None


def _field(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    found = [name for name in names if name in item]
    if len(found) != 1:
        raise WrongItemError(
            f"it has the fields {', '.join(map(str, item))}, and should have one of "
            f"{', '.join(names)}: rename a column, or wrap the data set"
        )
    return item[found[0]]
