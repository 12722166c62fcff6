"""Files read once in the order that they are given in, as a stream without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import Input
from adaptune.data.labels import NoLabels
from adaptune.data.listing import Example
from adaptune.data.loading import Loading, group_keys, load_groups
from adaptune.data.names import class_finder
from adaptune.data.split_reader import in_order
from adaptune.types import Unlabeled


@dataclass
class StreamReader:
    """Reads ``files``, or examples, by ``parts`` or else in batches of one size.

    ``problems`` fills up with why rows could not be read.
    """

    files: Sequence[Path | Example]
    reader: Input
    loading: Loading
    parts: Sequence[range] = ()
    problems: dict[int, str] = field(default_factory=dict)

    def batches(self, label: str) -> Iterator[Unlabeled]:
        """Give batch after batch, but those of which nothing can be read."""
        # No label, so that none can leak.
        examples = [
            replace(one, label="") if isinstance(one, Example) else Example(one, "")
            for one in self.files
        ]
        rows = FileRows(examples, self.reader, NoLabels(), self.loading.cache)
        keys = in_order(rows)
        groups = [[keys[row] for row in part] for part in self.parts]
        groups = groups or group_keys(keys, self.loading.batch_size)
        read = load_groups(rows, groups, self.loading, label)
        for group, (stack, broken) in zip(groups, read, strict=True):
            index = stack[2] if stack else torch.empty(0, dtype=torch.int64)
            lost = [row for row, _ in group if row not in set(index.tolist())]
            self.problems |= {row: one.reason for row, one in zip(lost, broken, strict=True)}
            if stack:
                yield Unlabeled(stack[0], torch.zeros_like(index), index)


def known_labels(
    examples: Sequence[Example], place: Path, classes: Sequence[str]
) -> dict[int, int]:
    """Give the class numbers, by row, of examples whose class is told, by their folder or else."""
    if place.is_dir():
        return folder_labels([one.path for one in examples], place, classes)
    find, labels = class_finder(classes), dict[int, int]()
    for row, one in enumerate(examples):
        if one.label and (name := find(one.label)):
            labels[row] = list(classes).index(name)
    return labels


def folder_labels(files: Sequence[Path], folder: Path, classes: Sequence[str]) -> dict[int, int]:
    """Give the class numbers of the files, by row, that lie in a folder of a class's name.

    >>> folder_labels([Path("a/Dog/1.png"), Path("a/2.png")], Path("a"), ["cat", "dog"])
    {0: 1}
    """
    find, labels = class_finder(classes), dict[int, int]()
    for row, path in enumerate(files):
        found = [name for name in map(find, path.relative_to(folder).parent.parts) if name]
        if found:
            labels[row] = list(classes).index(found[0])
    return labels
