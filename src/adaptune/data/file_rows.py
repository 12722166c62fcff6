"""Files as rows: read through an input, under labels."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from adaptune.data.cache import Cache, Place, Store, key_of, store_of
from adaptune.data.inputs import Input
from adaptune.data.labels import LabelReader
from adaptune.data.listing import Example, Part
from adaptune.data.names import printable
from adaptune.data.objects import UnreachableError
from adaptune.data.sample import Sample, Unreadable, seeded


class FileRows(Dataset[Sample | Unreadable]):
    """Examples under labels. An item is asked for by its row and the seed of its augmentation.

    What is random about an item depends on that seed alone, so it is the same for any number of
    workers. A file that cannot be read gives an `Unreadable`, never an error.
    """

    store: Store = store_of("none")

    def __init__(
        self,
        examples: Sequence[Example],
        reader: Input,
        meaning: LabelReader,
        cache: Cache = "none",
    ) -> None:
        self.examples, self.input, self.meaning = tuple(examples), reader, meaning
        self.store = store_of(cache)

    @cached_property
    def paths(self) -> list[Path]:
        """The file of each row, as people are told."""
        return [example.path for example in self.examples]

    @cached_property
    def labels(self) -> list[Any]:
        """What is told of each row's label; see `LabelReader.told`."""
        return [self.meaning.told(example) for example in self.examples]

    def through(self, reader: Input) -> FileRows:
        """Give the same files through another input."""
        other = copy(self)
        other.input = reader
        return other

    def under(self, meaning: LabelReader) -> FileRows:
        """Give the same files under labels that are read in another way."""
        other = copy(self)
        other.meaning = meaning
        return other

    def chosen(self, rows: Sequence[int]) -> FileRows:
        """Give some of the rows."""
        return FileRows(
            [self.examples[row] for row in rows], self.input, self.meaning, self.store.kind
        )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        example = self.examples[row]
        try:
            x, y = self._fixed(example), self._label(example)
        except OSError as error:
            gone = isinstance(error, UnreachableError)
            return Unreadable(printable(example.path), str(error), stops=gone)
        with seeded(seed):
            return *self.input.varied(x, y), row

    def _fixed(self, example: Example) -> Tensor:
        if not self.input.made:
            return self.input.fixed(example)
        place = _place(example.path, example.part)
        return self.store.found(place, self.input.made, partial(self.input.fixed, example))

    def _label(self, example: Example) -> Tensor:
        """Give the label; one of a file is kept as long as that and the example's own are."""
        if not self.meaning.made or self.store.kind == "none":
            return self.meaning.read(example)
        try:
            made = f"{self.meaning.made} of {key_of(*_place(example.path, example.part), '')}"
        except OSError:
            return self.meaning.read(example)  # which says what is wrong
        place = _place(Path(example.label), example.label_part)
        return self.store.found(
            place, made, lambda: self.meaning.read(example).unsqueeze(0)
        ).squeeze(0)


def _place(path: Path, part: Part | None) -> Place:
    return (part.file, part.offset, part.version) if part else (path, 0, "")
