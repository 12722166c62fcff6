"""What a source of images holds, before any image is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from adaptune.data.names import compose
from adaptune.runtime.limits import MOST, SEEDS, check_range
from adaptune.types import Split


@dataclass(frozen=True, slots=True)
class Part:
    """Where an image lies within another file: its name there, its first byte and how many.

    Of a remote object, or a part of one, ``version`` is what its store calls these contents.
    """

    file: Path
    member: str
    offset: int
    size: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """An image file, its class by name, and the split that its source gave it, if any.

    Of an image that is ``part`` of another file, ``path`` is what people are told; so is the label
    of one whose label is a file, which may be part of another too. Of an example that is a text
    ``text`` is that, and ``path`` says where it was found.
    """

    path: Path
    label: str
    split: Split | None = None
    part: Part | None = None
    label_part: Part | None = None
    text: str | None = None

    @property
    def subject(self) -> str:
        """What the image shows: the file's stem, the same in every domain and on every disk.

        Of a text it is the text itself, however its words are spaced, as a checksum.
        """
        if self.text is not None:
            words = " ".join(compose(self.text).casefold().split())
            return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:32]
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

    def to_test(self) -> tuple[Example, ...]:
        """Give what another domain is tested on: its own test examples, or else all it has."""
        return self.of("test") or self.of("val") or self.examples

    def need_training(self) -> None:
        """Refuse a domain to train on that has nothing to train on.

        Raises:
            ValueError: If that is so.
        """
        if not self.of("train"):
            raise ValueError(
                f"{self.name} holds no training images: give it a train folder, or smaller shares "
                "for validation and test"
            )


def seen_notes(name: str, count: int) -> list[str]:
    """Say how many of a domain's examples are not tested, because they were trained on."""
    if not count:
        return []
    return [
        f"{name}: {count} images left out, because a file of the same name is in the "
        "training or validation data (--ood-images all takes them in)"
    ]


def unseen(
    name: str, asked: Sequence[Example], trained: Sequence[Example]
) -> tuple[tuple[Example, ...], list[str]]:
    """Test what is asked for, but those whose subject was trained on; say how many these are."""
    known = {example.subject for example in trained}
    kept = [replace(one, split="test") for one in asked if one.subject not in known]
    return tuple(kept), seen_notes(name, len(asked) - len(kept))


@dataclass(frozen=True)
class Shares:
    """How an unsplit source is divided.

    Args:
        val_share: The share of the images kept for validation.
        test_share: The share of the images kept for testing.
        ood_images: Which images of other domains are tested: "unseen" leaves out those whose file
            name an image in training or validation has, "all" takes every one.
        shots: How many images of each class to train on, in each labelled domain; by default all.
            Validation and tests stay what they are.
        shots_seed: Which images these are; fewer of one seed are among more of it.
    """

    val_share: float = 0.1
    test_share: float = 0.2
    ood_images: Literal["unseen", "all"] = "unseen"
    shots: int | None = None
    shots_seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.val_share < 1 and 0 <= self.test_share < 1 - self.val_share):
            raise ValueError(
                f"the shares for validation ({self.val_share}) and test ({self.test_share}) must "
                "be at least 0 and leave something to train on"
            )
        check_range("--shots", self.shots, 1, MOST)
        check_range("--shots-seed", self.shots_seed, *SEEDS)


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


def few_shots(listing: Listing, shots: int, seed: int) -> Listing:
    """Keep so many training examples of each class, drawn by a stable hash of seed and subject.

    Of one seed the draws are nested. What is not trained on of a class is left out.

    >>> photos = tuple(Example(Path(f"{n}.png"), "cat", "train") for n in range(9))
    >>> [len(few_shots(Listing("p", photos, ("cat",)), k, 0).examples) for k in (1, 3, 20)]
    [1, 3, 9]
    """
    by_class: dict[str, list[Example]] = {}
    for one in listing.of("train"):
        by_class.setdefault(one.label, []).append(one)
    kept: set[int] = set()
    for found in by_class.values():
        drawn = sorted(
            found, key=lambda one: (split_position(f"{seed} {one.subject}"), str(one.path))
        )
        kept |= {id(one) for one in drawn[:shots]}
    examples = tuple(one for one in listing.examples if one.split != "train" or id(one) in kept)
    said = (
        f"{listing.name}: trained on {len(kept)} of {len(listing.of('train'))} training images, "
        f"at most {shots} a class (--shots-seed {seed} drew them)"
    )
    return replace(listing, examples=examples, notes=(*listing.notes, said))
