"""Tags as labels: one a word, of which some may ask nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adaptune.data.labels.classes import differing_little
from adaptune.data.listing import Example, Listing, unseen
from adaptune.data.names import class_finder
from adaptune.data.sample import shown
from adaptune.data.texts import words_of
from adaptune.ops.spans import UNTAGGED


class TagLabels:
    """Labels that are the numbers of tags, int64 (W,), one a word; what has no name is `UNTAGGED`.

    An example's label is its tags, parted by blanks as its words are.

    >>> from pathlib import Path
    >>> TagLabels(["B-PER", "O"]).read(Example(Path("a"), "O B-PER B-LOC")).tolist()
    [1, 0, 65535]
    """

    made = ""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        if len(self.names) >= UNTAGGED:
            raise ValueError(f"there are {len(self.names)} tags, and {UNTAGGED - 1} at most")
        self.numbers = {name: number for number, name in enumerate(self.names)}

    def read(self, example: Example) -> Tensor:
        """Give the number of each word's tag."""
        said = words_of(example.label)
        return torch.tensor([self.numbers.get(tag, UNTAGGED) for tag in said], dtype=torch.int64)

    def told(self, example: Example) -> str:
        """Give an example's tags."""
        return example.label

    def given(self, value: Any) -> Tensor:
        """Give tags in memory: whole numbers (L,), one an id; what is no tag's is `UNTAGGED`.

        Raises:
            ValueError: If they are none.
        """
        try:
            y = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            y = torch.empty(0)
        if y.dim() != 1 or y.is_floating_point() or y.is_complex():
            raise ValueError(
                f"its label is {shown(value)} and should be whole numbers, one an id: give the "
                "number of each one's tag, and any other where nothing is asked"
            )
        y = y.long()
        return y.where((y >= 0) & (y < len(self.names)), UNTAGGED)

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Keep the texts that have a tag of these; of a ``further`` source they may differ in case.

        Raises:
            ValueError: If no training text is left.
        """
        del further
        examples, notes = self._spelled(listing.name, listing.examples)
        kept = replace(listing, examples=examples, classes=self.names)
        kept.need_training()
        return kept, [*listing.notes, *notes]

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say which tags may be one, and which no training text has."""
        have = {tag for one in trained for tag in set(words_of(one.label))}
        lacking = [name for name in self.names if name not in have]
        said = f"tags that no training image has keep their row: {', '.join(lacking)}"
        return [*differing_little(self.names), *([said] if lacking else [])]

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Test all texts that have a tag of these, but those whose subject was trained on."""
        examples, notes = self._spelled(listing.name, listing.to_test())
        kept, seen = unseen(listing.name, examples, trained)
        return kept, [*notes, *seen]

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return (
            f"no image of {listing.name} can be tested: its tags "
            f"({', '.join(listing.classes[:5]) or 'none'}) are none of the training data "
            f"({', '.join(self.names[:5])}, ...), or all its images are in the training data"
        )

    def _spelled(
        self, name: str, examples: Iterable[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Give tags the spelling of these; leave out texts of others alone, and say so."""
        find, kept = class_finder(self.names), list[Example]()
        others: Counter[str] = Counter()
        left = 0
        for one in examples:
            tags = words_of(one.label)
            found = [find(tag) for tag in tags]
            others.update(tag for tag, own in zip(tags, found, strict=True) if not own)
            if any(found):
                said = (own or tag for tag, own in zip(tags, found, strict=True))
                kept.append(replace(one, label=" ".join(said)))
            left += not any(found)
        notes = []
        if others:
            many = ", ".join(f"{tag} ({count})" for tag, count in sorted(others.items()))
            notes.append(f"{name}: nothing is asked of words with tags beside those learnt: {many}")
        if left:
            notes.append(f"{name}: {left} images have no word with a tag, and are left out")
        return tuple(kept), notes


def counted_tags(examples: Iterable[Example]) -> Counter[str]:
    """Count the words of each tag.

    >>> from pathlib import Path
    >>> counted_tags([Example(Path("a"), "O O B-PER")])
    Counter({'O': 2, 'B-PER': 1})
    """
    return Counter(tag for one in examples for tag in words_of(one.label))
