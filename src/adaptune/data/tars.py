"""WebDataset tars: shards whose samples are files of one name and several endings."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from adaptune.data.folder import SPLITS
from adaptune.data.folder import SUFFIXES as IMAGES
from adaptune.data.listing import Example, Listing, Part, few, printable
from adaptune.types import Split

LABELS = (".cls", ".txt")
"""Endings of the members that hold a sample's class, by name or number."""

LONGEST = 1000
"""Bytes that the name of a class may have."""


def is_tars(source: Path) -> bool:
    """Tell whether a source is a tar, or a folder with tars in it."""
    return source.suffix == ".tar" or (source.is_dir() and any(source.glob("*.tar")))


def read_tars(source: Path, name: str) -> Listing:
    """List the samples of a tar, or of all tars in a folder, by their headers alone.

    A sample is an image and a ``.cls`` or ``.txt`` with its class, under one name. A shard whose
    name begins with train, val or test belongs to that split. Images are read from where they lie
    in the tar, in any order, so training is as repeatable as on a folder.

    Raises:
        ValueError: If there is no tar, one is damaged or compressed, or no sample has a class.
    """
    shards = [source] if source.suffix == ".tar" else sorted(source.glob("*.tar"))
    examples: list[Example] = []
    lacking: list[str] = []
    for shard in shards:
        split = _split(shard.stem)
        for image, label in _samples(shard):
            if label is None:
                lacking.append(printable(image.file / image.member))
            else:
                path = image.file / image.member
                examples.append(Example(path, label, split, image))
    if not examples:
        raise ValueError(
            f"{printable(source)} holds no samples: expected tars with an image and a .cls or .txt "
            "with its class under one name, such as 0001.jpg and 0001.cls"
        )
    labels = {example.label for example in examples}
    order = sorted(labels, key=int) if all(map(str.isdecimal, labels)) else sorted(labels)
    notes = [f"{name}: images without a class passed over: {few(lacking)}"] if lacking else []
    return Listing(name, tuple(examples), tuple(order), tuple(notes))


def _samples(shard: Path) -> Iterator[tuple[Part, str | None]]:
    """Give the images of a shard, each with its class if it has one."""
    images: dict[str, Part] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                key, dot, rest = member.name.rpartition(".")
                if not (member.isreg() and dot):
                    continue
                if f".{rest.lower()}" in IMAGES:
                    images[key] = Part(shard, member.name, member.offset_data, member.size)
                elif f".{rest.lower()}" in LABELS and member.size <= LONGEST:
                    content = opened.extractfile(member)
                    said = b"" if content is None else content.read()
                    labels[key] = printable(said.decode("utf-8", "surrogateescape").strip())
    except (OSError, tarfile.TarError) as error:
        raise ValueError(
            f"{printable(shard)} could not be read as a tar ({error}): expected one that is whole "
            "and not compressed"
        ) from error
    for key, image in images.items():
        yield image, labels.get(key) or None


def _split(stem: str) -> Split | None:
    """Read the split off a shard's name.

    >>> _split("train-000001"), _split("photos-1")
    ('train', None)
    """
    word = stem.casefold().replace("_", "-").split("-")[0].rstrip("0123456789")
    return SPLITS.get(word)
