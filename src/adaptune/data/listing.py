"""What a source of images holds, before any image is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from adaptune.data.names import class_finder, compose
from adaptune.types import UNKNOWN, Split


@dataclass(frozen=True)
class Part:
    """Where an image lies within another file: its name there, its first byte and how many."""

    file: Path
    member: str
    offset: int
    size: int


@dataclass(frozen=True)
class Example:
    """An image file, its class by name, and the split that its source gave it, if any.

    Of an image that is ``part`` of another file, ``path`` is what people are told.
    """

    path: Path
    label: str
    split: Split | None = None
    part: Part | None = None

    @property
    def subject(self) -> str:
        """What the image shows: the file's stem, the same in every domain and on every disk."""
        return compose(self.path.stem).casefold()


@dataclass(frozen=True)
class Listing:
    """The examples of one domain, the names of its classes, and what was odd about the source."""

    name: str
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def of(self, split: Split) -> tuple[Example, ...]:
        """Give the examples of one split."""
        return tuple(example for example in self.examples if example.split == split)


@dataclass(frozen=True)
class Shares:
    """How an unsplit source is divided.

    Args:
        val_share: The share of the images kept for validation.
        test_share: The share of the images kept for testing.
        ood_images: Which images of other domains are tested: "unseen" leaves out those whose file
            name an image in training or validation has, "all" takes every one.
    """

    val_share: float = 0.1
    test_share: float = 0.2
    ood_images: Literal["unseen", "all"] = "unseen"

    def __post_init__(self) -> None:
        if not (0 <= self.val_share < 1 and 0 <= self.test_share < 1 - self.val_share):
            raise ValueError(
                f"the shares for validation ({self.val_share}) and test ({self.test_share}) must "
                "be at least 0 and leave something to train on"
            )


def split_position(subject: str) -> float:
    """Give a subject its place between 0 and 1, by a stable hash: the same on every machine.

    >>> round(split_position("1f600"), 4) == round(split_position("1f600"), 4)
    True
    """
    digest = hashlib.sha256(subject.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_subject(listing: Listing, shares: Shares) -> Listing:
    """Give every example a split.

    Without splits of its own, a source is divided by a stable hash of each file's stem, so a
    subject that is seen in several domains is in the same split in all of them. What the source
    already decided stays; what is missing is divided off the training set in the same way, except
    that a source with train and val alone keeps val for testing.

    >>> photos = tuple(Example(Path(f"{n}.png"), "cat") for n in range(100))
    >>> parts = split_by_subject(Listing("photos", photos, ("cat",)), Shares())
    >>> sum(len(parts.of(split)) for split in ("train", "val", "test"))
    100
    """
    given = {example.split for example in listing.examples}
    examples = listing.examples
    notes = listing.notes
    if "val" in given and "test" not in given:
        renamed: dict[Split | None, Split | None] = {"val": "test"}
        examples = tuple(replace(e, split=renamed.get(e.split, e.split)) for e in examples)
        notes += ("val/ is kept for testing; validation images are divided off train/",)
    elif "test" in given and "val" not in given and None not in given:
        notes += ("no val/ given: validation images are divided off train/",)
    elif given == {"train"}:
        notes += ("only train/ given: validation and test images are divided off it",)
    divides = Shares(shares.val_share, 0.0) if given & {"val", "test"} else shares
    free = {None} if "val" in given and "test" in given else {None, "train"}

    def decide(example: Example) -> Example:
        if example.split not in free:
            return example
        place = split_position(example.subject)
        split: Split = "train"
        if place < divides.val_share:
            split = "val"
        elif place < divides.val_share + divides.test_share:
            split = "test"
        return replace(example, split=split)

    return replace(listing, examples=tuple(map(decide, examples)), notes=notes)


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
        if self.seen:
            said.append(
                f"{name}: {self.seen} images left out, because a file of the same name is in the "
                "training or validation data (--ood-images all takes them in)"
            )
        return said


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

    >>> other = Listing("b", (Example(Path("1.png"), "Cat"), Example(Path("2.png"), "emu")), ())
    >>> mapped = map_to(["cat", "dog"], other)
    >>> [e.label for e in mapped.examples], mapped.unknown, mapped.missing
    (['cat'], {'emu': 1}, ('dog',))
    """
    find = class_finder(classes)
    tested = other.of("test") or other.of("val")
    trained_on = {example.subject for example in trained}
    examples: list[Example] = []
    unknown: dict[str, int] = {}
    renamed: dict[str, None] = {}
    seen = 0
    for example in tested or other.examples:
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
