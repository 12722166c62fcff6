"""Scenes in WebDataset tars: an image and its mask under one name, told apart by their endings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from adaptune.data.files import Passed
from adaptune.data.listing import Example, Listing, Part
from adaptune.data.names import compose, first_few, printable
from adaptune.data.readers.tars import Shard, read_shard, shards_in, split_of_shard

MARKS = ("mask", "seg", "label", "labels")
"""What stands before the ending of a mask, as in ``0001.seg.png``."""

MASKED = ("mask",)
"""What stands for the classes of scenes, which their masks alone know."""


@dataclass
class _Found:
    examples: list[Example] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


def read_mask_tars(source: Path, name: str) -> Listing:
    """List the scenes of a tar, or of all tars in a folder, by their headers alone.

    Of the images under one name, up to its first dot, the mask is the one that says so
    (``0001.mask.png``, ``0001.seg.png``), or else the only PNG beside one other image. A shard
    whose name begins with train, val or test belongs to that split.

    Raises:
        ValueError: If there is no image, or a tar is damaged or compressed.
    """
    passed = Passed()
    return scenes_of(source, name, [read_shard(file, passed) for file in shards_in(source)], passed)


def scenes_of(source: Path, name: str, shards: Sequence[Shard], passed: Passed) -> Listing:
    """List the scenes of tars whose headers were read.

    Raises:
        ValueError: If there is no image.
    """
    found = _Found()
    for shard in shards:
        groups: defaultdict[str, list[Part]] = defaultdict(list)
        for part in shard.images.values():
            groups[_key(part)].append(part)
        for parts in groups.values():
            _take(parts, found, shard.file)
    notes = passed.notes(name)
    if found.several:
        notes.append(
            f"{name}: samples of several images or masks passed over: {first_few(found.several)}; "
            "a mask is called 0001.mask.png beside 0001.jpg"
        )
    if found.alone:
        notes.append(f"{name}: masks without an image passed over: {first_few(found.alone)}")
    if not found.examples:
        raise ValueError("; ".join([f"{printable(source)} holds no images", *notes]))
    masked = any(one.label for one in found.examples)
    return Listing(name, tuple(found.examples), MASKED if masked else (), tuple(notes))


def _take(parts: Sequence[Part], found: _Found, file: Path) -> None:
    """Tell the image of a sample from its mask."""
    masks = [part for part in parts if _says_mask(part)]
    images = [part for part in parts if part not in masks]
    if not masks and len(images) == 2:
        masks = [part for part in images if _ending(part) == ".png"]
        images = [part for part in images if part not in masks]
    named = printable(str(file / parts[0].member))
    if not images and len(masks) == 1:
        found.alone.append(named)
    elif len(images) != 1 or len(masks) > 1:
        found.several.append(named)
    else:
        (image,), mask = images, next(iter(masks), None)
        label = "" if mask is None else str(file / mask.member)
        split = split_of_shard(file.stem)
        found.examples.append(Example(file / image.member, label, split, image, mask))


def _key(part: Part) -> str:
    path = PurePosixPath(part.member)
    return compose(str(path.with_name(path.name.partition(".")[0])))


def _says_mask(part: Part) -> bool:
    return PurePosixPath(PurePosixPath(part.member).stem).suffix[1:].casefold() in MARKS


def _ending(part: Part) -> str:
    return PurePosixPath(part.member).suffix.casefold()
