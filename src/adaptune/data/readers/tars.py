"""WebDataset tars: shards whose samples are files of one name and several endings."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from adaptune.data.files import Passed, is_image, is_passed
from adaptune.data.listing import Example, Listing, Part
from adaptune.data.names import class_order, compose, first_few, normal_name, printable, sort_key
from adaptune.data.readers.folder import SPLITS
from adaptune.types import Split

LONGEST = 1000
"""Bytes that the name of a class may have."""


@dataclass
class Shard:
    """What the headers of a tar say: its images, and texts of ``.cls`` and ``.txt``, by stem."""

    file: Path
    images: dict[str, Part] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """The samples of all shards, and the images that are none."""

    examples: list[Example] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)

    def notes(self, name: str) -> list[str]:
        """Say in sentences which images were passed over."""
        said = []
        if self.lacking:
            said.append(f"{name}: images without a class passed over: {first_few(self.lacking)}")
        if self.several:
            said.append(
                f"{name}: further images of a sample passed over: {first_few(self.several)}; of "
                "several, that is taken whose name is the class file's, as 0001.jpg of 0001.cls"
            )
        return said


def is_tars(source: Path) -> bool:
    """Tell whether a source is a tar, or a folder with tars in it."""
    return source.suffix == ".tar" or (source.is_dir() and bool(shards_in(source)))


def read_tars(source: Path, name: str) -> Listing:
    """List the samples of a tar, or of all tars in a folder, by their headers alone.

    A sample is an image and a ``.cls`` with its class, under one name; where no sample has one, a
    ``.txt`` says the class, and otherwise it is a caption. A shard whose name begins with train,
    val or test belongs to that split. Images are read from where they lie in the tar, in any order,
    so training is as repeatable as on a folder.

    Raises:
        ValueError: If there is no tar, one is damaged or compressed, or no sample has a class.
    """
    passed = Passed()
    return samples_of(
        source, name, [read_shard(file, passed) for file in shards_in(source)], passed
    )


def samples_of(source: Path, name: str, shards: Sequence[Shard], passed: Passed) -> Listing:
    """List the samples of tars whose headers were read.

    Raises:
        ValueError: If no sample has a class.
    """
    found = Found()
    captions = any(shard.classes for shard in shards)
    for shard in shards:
        _sort(shard, shard.classes if captions else shard.texts, found)
    notes = passed.notes(name) + found.notes(name)
    if not found.examples:
        said = "".join(f"; {note}" for note in notes)
        raise ValueError(
            f"{printable(source)} holds no samples: expected tars with an image and a .cls or .txt "
            f"with its class under one name, such as 0001.jpg and 0001.cls{said}"
        )
    if captions and any(shard.texts for shard in shards):
        notes.append(f"{name}: .cls files say the classes, so .txt files were taken as captions")
    labels = class_order(example.label for example in found.examples)
    return Listing(name, tuple(found.examples), labels, tuple(notes))


def shards_in(source: Path) -> list[Path]:
    """List the tars of a source, in the order of their names."""
    if source.suffix == ".tar":
        return [source]
    files = (file for file in source.glob("*.tar") if not is_passed(file.name))
    return sorted(files, key=sort_key)


def read_shard(file: Path, passed: Passed, opened_as: IO[bytes] | None = None) -> Shard:
    """Read the headers of a tar; of members of one name the last is what a tar holds.

    A tar that is no file of this machine is given ``opened_as`` one.
    """
    shard = Shard(file)
    whole: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(file, "r:", opened_as) as opened:
            for member in opened:
                path = PurePosixPath(member.name)
                left = next((part for part in path.parts if is_passed(part)), None)
                if member.isreg() and not member.issparse():
                    whole[member.name] = member
                place = whole.get(member.linkname if member.islnk() else member.name)
                if left is not None:
                    passed.leave(left)
                elif place is not None:
                    _take(shard, path, place, opened)
                elif is_image(path.name) and not member.isdir():
                    passed.named.append(f"{printable(file / member.name)} (a link, or in pieces)")
    except (OSError, tarfile.TarError) as error:
        raise ValueError(
            f"{printable(file)} could not be read as a tar ({error}): expected one that is whole "
            "and not compressed"
        ) from error
    return shard


def _take(
    shard: Shard, path: PurePosixPath, member: tarfile.TarInfo, opened: tarfile.TarFile
) -> None:
    """Keep where an image lies, or what the text of a class file is: in ``member``."""
    texts = {".cls": shard.classes, ".txt": shard.texts}.get(path.suffix.lower())
    if is_image(path.name):
        part = Part(shard.file, str(path), member.offset_data, member.size)
        shard.images[str(path)] = part
    elif texts is not None and member.size <= LONGEST:
        content = opened.extractfile(member)
        said = b"" if content is None else content.read()
        texts[_stem(path)] = normal_name(said.decode("utf-8", "surrogateescape"))


def _sort(shard: Shard, labels: dict[str, str], found: Found) -> None:
    """Tell samples from images that have no class, and from further images of a sample."""
    split = split_of_shard(shard.file.stem)
    groups = _groups(shard, labels)
    chosen = {_main(key, parts) for key, parts in groups.items()}
    for key, parts in groups.items():
        for part in parts:
            path = part.file / part.member
            if not labels.get(key):
                found.lacking.append(printable(path))
            elif part in chosen:
                found.examples.append(Example(path, labels[key], split, part))
            else:
                found.several.append(printable(path))


def _groups(shard: Shard, labels: dict[str, str]) -> dict[str, list[Part]]:
    """Group images by sample: by stem where that has a class, else up to the name's first dot."""
    groups: dict[str, list[Part]] = {}
    for name, part in shard.images.items():
        path = PurePosixPath(name)
        stem = _stem(path)
        key = stem if stem in labels else compose(str(path.with_name(path.name.partition(".")[0])))
        groups.setdefault(key, []).append(part)
    return groups


def _main(key: str, parts: list[Part]) -> Part | None:
    """Choose the image of a sample; nobody can tell which of several it is but by its name."""
    exact = [part for part in parts if _stem(PurePosixPath(part.member)) == key]
    chosen = exact or parts
    return chosen[0] if len(chosen) == 1 else None


def _stem(path: PurePosixPath) -> str:
    return compose(str(path.with_suffix("")))


def split_of_shard(stem: str) -> Split | None:
    """Read the split off a shard's name.

    >>> split_of_shard("train-000001"), split_of_shard("photos-1")
    ('train', None)
    """
    word = stem.casefold().replace("_", "-").split("-")[0].rstrip("0123456789")
    return SPLITS.get(word)
