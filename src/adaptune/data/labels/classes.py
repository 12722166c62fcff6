"""Classes as labels: which names are one class, in which order, and what of a domain has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from adaptune.data.listing import Example, Listing, seen_notes
from adaptune.data.names import class_finder, first_few, normal_name, similar_names
from adaptune.data.sample import shown
from adaptune.types import UNKNOWN


class ClassLabels:
    """Labels that are the numbers, int64 (), of classes by name.

    In an ``open_set`` what is of none of them is `UNKNOWN`, a number after the last.

    >>> from pathlib import Path
    >>> ClassLabels(["cat", "dog"]).read(Example(Path("1.png"), "dog"))
    tensor(1)
    """

    made = ""

    def __init__(self, names: Sequence[str], *, open_set: bool = False) -> None:
        self.names, self.open_set = tuple(names), open_set
        if open_set:
            _refuse_closed(self.names)
        self.words = (*self.names, UNKNOWN) if open_set else self.names
        self.numbers = {name: row for row, name in enumerate(self.words)}

    def read(self, example: Example) -> Tensor:
        """Give the number of an example's class."""
        return torch.tensor(self.numbers[example.label])

    def told(self, example: Example) -> int:
        """Give the number of an example's class."""
        return self.numbers[example.label]

    def given(self, value: Any) -> Tensor:
        """Give the number of a label in memory; see `class_number`."""
        return torch.tensor(class_number(value, self.words))

    def kept(self, listing: Listing, *, further: bool = False) -> tuple[Listing, list[str]]:
        """Keep the examples of the classes; names of a ``further`` source may differ in case.

        Raises:
            ValueError: If no training example is left.
        """
        return keep_classes(self.names, spell_as(self.names, listing) if further else listing)

    def remarks(self, trained: Sequence[Example]) -> list[str]:
        """Say which classes may be one, and which have no training image."""
        have = {example.label for example in trained}
        lacking = [name for name in self.names if name not in have]
        said = f"classes without a training image keep their row: {', '.join(lacking)}"
        return [*differing_little(self.names), *([said] if lacking else [])]

    def tested(
        self, listing: Listing, trained: Sequence[Example]
    ) -> tuple[tuple[Example, ...], list[str]]:
        """Map a domain to the classes by name; see `map_to`."""
        mapped = map_to(self.names, listing, trained, open_set=self.open_set)
        return mapped.examples, mapped.notes(listing.name)

    def mismatch(self, listing: Listing) -> str:
        """Say why nothing of a domain could be tested."""
        return (
            f"no image of {listing.name} can be tested: its classes "
            f"({', '.join(listing.classes[:5])}, ...) do not match the training classes "
            f"({', '.join(self.names[:5])}, ...), or all its files are in the training data"
        )


def _refuse_closed(classes: Sequence[str]) -> None:
    """Say why nothing can be unknown beside these classes.

    Raises:
        ValueError: If that is so.
    """
    if UNKNOWN in classes:
        raise ValueError(
            f"a class is called {UNKNOWN!r}, and so are images of no class in an open set: rename "
            "it, or choose others with --classes"
        )
    if len(classes) < 2:
        raise ValueError(
            f"an open set needs two classes to be unsure between, and there is {', '.join(classes)}"
            ": give more, or leave out --open-set"
        )


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Give classes that are asked for by their names, in their order.

    Raises:
        ValueError: If one is asked for twice, or has no name.

    >>> classes_of(["dog ", "cat"])
    ('dog', 'cat')
    """
    classes = tuple(map(normal_name, names))
    twice = [name for name in classes if classes.count(name) > 1]
    if twice or "" in classes:
        said = f"the class {twice[0]!r} twice" if twice else "a class without a name"
        raise ValueError(f"the classes to train on are named once each, and there is {said}")
    return classes


def differing_little(classes: Sequence[str]) -> list[str]:
    """Say which classes may be one that was written in several ways."""
    groups = [" = ".join(map(repr, group)) for group in similar_names(classes)]
    if not groups:
        return []
    return [
        f"classes that differ by case or blanks alone are kept apart: {first_few(groups, '; ')}; "
        "where they are one, give them one name"
    ]


def keep_classes(classes: Sequence[str], listing: Listing) -> tuple[Listing, list[str]]:
    """Keep the images of the classes to train on; say what was left out.

    Raises:
        ValueError: If no training image is left.
    """
    notes = list(listing.notes)
    others = Counter(e.label for e in listing.examples if e.label not in classes)
    if others:
        many = ", ".join(f"{label} ({count})" for label, count in sorted(others.items()))
        kept = tuple(example for example in listing.examples if example.label in classes)
        listing = replace(listing, examples=kept)
        notes.append(f"classes that are not among those to train on were left out: {many}")
    listing.need_training()
    return listing, notes


def spell_as(classes: Sequence[str], listing: Listing) -> Listing:
    """Give the labels of another source the spelling of the classes, where only case differs."""
    find = class_finder(classes)
    examples = (replace(e, label=find(e.label) or e.label) for e in listing.examples)
    return replace(listing, examples=tuple(examples))


@dataclass(frozen=True)
class Mapped:
    """Images of another domain under the labels of the training domain, and what did not map.

    ``renamed`` are its names for classes that differ in case from those of the training domain.
    Of an ``open_set`` what did not map is among the examples, as `UNKNOWN`.
    """

    examples: tuple[Example, ...]
    unknown: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    seen: int = 0
    open_set: bool = False
    renamed: tuple[str, ...] = ()

    def notes(self, name: str) -> list[str]:
        """Say in sentences what was left out, and what is unknown."""
        said = []
        many = ", ".join(f"{label} ({count})" for label, count in self.unknown.items())
        if self.open_set:
            said.append(
                f"{name}: {sum(self.unknown.values())} of {len(self.examples)} images to test are "
                f"of classes that the training data lacks, so unknown: {many or 'none'}"
            )
        elif many:
            said.append(f"{name}: classes that the training data lacks were left out: {many}")
        if self.renamed:
            said.append(
                f"{name}: its {', '.join(self.renamed)} were taken for the classes of the training "
                "data that differ from them in case alone"
            )
        if self.missing:
            said.append(f"{name}: has no image of {', '.join(self.missing)}")
        return said + seen_notes(name, self.seen)


def map_to(
    classes: Sequence[str],
    other: Listing,
    trained: Iterable[Example] = (),
    *,
    open_set: bool = False,
) -> Mapped:
    """Map another domain's classes by name and leave out the subjects that were trained on.

    A name maps to itself, or else to the one that differs in case alone; images of others are left
    out, or in an open set `UNKNOWN`. Where the other source has test images of its own, only those
    are taken.

    >>> from pathlib import Path
    >>> other = Listing("b", (Example(Path("1.png"), "Cat"), Example(Path("2.png"), "emu")), ())
    >>> mapped = map_to(["cat", "dog"], other)
    >>> [e.label for e in mapped.examples], mapped.unknown, mapped.missing
    (['cat'], {'emu': 1}, ('dog',))
    """
    find = class_finder(classes)
    trained_on = {example.subject for example in trained}
    examples: list[Example] = []
    unknown: dict[str, int] = {}
    renamed: dict[str, None] = {}
    seen = 0
    for example in other.to_test():
        label = find(example.label)
        counts = bool(label) or open_set
        if counts and example.subject in trained_on:
            seen += 1
            continue
        if not label:
            unknown[example.label] = unknown.get(example.label, 0) + 1
        elif label != example.label:
            renamed[example.label] = None
        if counts:
            examples.append(replace(example, label=label or UNKNOWN, split="test"))
    have = {example.label for example in examples}
    missing = tuple(name for name in classes if name not in have)
    return Mapped(tuple(examples), unknown, missing, seen, open_set, tuple(renamed))


def class_number(said: Any, classes: Sequence[str]) -> int:
    """Read a label: the number of a class, its name, or a row of zeros with a one in its place.

    In classes that end with `UNKNOWN`, numbers go up to that.

    Raises:
        ValueError: If it is none of these.

    >>> class_number(1.0, "ab"), class_number("b", "ab"), class_number([0, 1], "ab")
    (1, 1, 1)
    """
    if isinstance(said, str) and said in classes:
        return classes.index(said)
    try:
        values = [float(value) for value in torch.as_tensor(said).flatten()]
    except (TypeError, ValueError, RuntimeError):
        values = []
    if len(values) == len(classes) > 1 and sorted(values) == [0.0] * (len(values) - 1) + [1.0]:
        return values.index(1.0)
    if len(values) == 1 and values[0].is_integer() and 0 <= values[0] < len(classes):
        return int(values[0])
    known = [name for name in classes if name != UNKNOWN]
    raise ValueError(
        f"its label is {shown(said)}, and those of {len(known)} classes are the numbers from 0 to "
        f"{len(known) - 1} or their names: number the classes so, and leave out what is of none"
    )
