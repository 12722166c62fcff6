"""Files of the same contents in places where that does harm."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from adaptune.data.file_rows import FileRows
from adaptune.data.names import first_few, printable


@dataclass(frozen=True)
class Occurrence:
    """A file, the set that it is served in, and its class; of a text what tells it from others."""

    path: Path
    split: str
    label: str
    text: str = ""


def find_duplicates(sets: Mapping[str, FileRows]) -> list[tuple[Occurrence, ...]]:
    """Group files of the same contents that are in several sets, or under several classes.

    Texts are so where blanks and case alone differ. Only files of one size are read; those that
    cannot be are left to whoever reads images.
    """
    places = [
        Occurrence(
            example.path, name, example.label, example.subject if example.text is not None else ""
        )
        for name, rows in sets.items()
        for example in rows.examples
    ]
    files = (one for one in places if not one.text)
    texts = _grouped((one for one in places if one.text), lambda one: one.text)
    of_files = (same for alike in _grouped(files, _size) for same in _grouped(alike, _contents))
    return [
        tuple(same)
        for same in chain(of_files, texts)
        if len({place.split for place in same}) > 1 or len({place.label for place in same}) > 1
    ]


def describe_duplicates(groups: Sequence[Sequence[Occurrence]]) -> list[str]:
    """Say in sentences which files are in several sets, and which under several classes."""
    said = []
    apart = [group for group in groups if len({place.split for place in group}) > 1]
    if apart:
        said.append(
            f"{len(apart)} images are in more than one of the sets, which makes scores too high: "
            f"{first_few([_named(group, 'split') for group in apart], '; ')}: keep each in one"
        )
    torn = [group for group in groups if len({place.label for place in group}) > 1]
    if torn:
        said.append(
            f"{len(torn)} images are in more than one class: "
            f"{first_few([_named(group, 'label') for group in torn], '; ')}: keep each in one"
        )
    return said


def _named(group: Sequence[Occurrence], by: str) -> str:
    """Name one file for each set, or for each class."""
    places = {getattr(place, by): place for place in reversed(group)}
    return " = ".join(f"{printable(places[key].path)} ({key})" for key in reversed(places))


def _grouped(
    places: Iterable[Occurrence], key: Callable[[Occurrence], object]
) -> Iterator[list[Occurrence]]:
    """Give the groups of two or more whose files have one key; those that raise have none."""
    found: defaultdict[object, list[Occurrence]] = defaultdict(list)
    for place in places:
        try:
            found[key(place)].append(place)
        except OSError:
            continue
    yield from (group for group in found.values() if len(group) > 1)


def _size(place: Occurrence) -> int:
    path = place.path
    if not path.is_file() or not path.stat().st_size:
        raise FileNotFoundError(path)
    return path.stat().st_size


def _contents(place: Occurrence) -> bytes:
    with place.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
