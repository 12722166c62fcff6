"""Folders and manifests as what a run trains on and tests on: kept to its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.folder import read_folder
from adaptune.data.listing import Example, Listing, map_to
from adaptune.data.manifest import SUFFIXES, read_manifest
from adaptune.data.tars import is_tars, read_tars


def read_source(path: Path, name: str) -> list[Listing]:
    """List what a folder, a manifest or tars hold, one listing a domain.

    A manifest's only domain is called ``name``; of several, each has a name of its own below it.
    """
    if is_tars(path):
        return [read_tars(path, name)]
    if path.suffix.lower() not in SUFFIXES:
        return [read_folder(path, name)]
    domains = list(read_manifest(path, name).values())
    if len(domains) == 1:
        return [replace(domains[0], name=name)]
    if name == path.stem:
        return domains
    return [replace(one, name=f"{name}/{one.name}") for one in domains]


def listed(source: Path, others: Mapping[str, Path], first: str | None = None) -> list[Listing]:
    """List the domains of a source, the one to train on first, then those of others by name.

    Args:
        source: A folder or a manifest.
        others: Further folders or manifests, by name.
        first: The domain of the source to train on; by default its first.

    Raises:
        ValueError: If the source has no such domain.
    """
    found = read_source(source, source.stem)
    names = [listing.name for listing in found]
    if first is not None and first not in names:
        raise ValueError(f"{source} has no domain {first!r}: there are {', '.join(names)}")
    found.sort(key=lambda listing: listing.name != (first or names[0]))
    for name, path in others.items():
        found += read_source(Path(path), name)
    return found


def kept_to(classes: Sequence[str], listing: Listing) -> tuple[Listing, list[str]]:
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
    if not listing.of("train"):
        raise ValueError(
            f"{listing.name} holds no training images: give it a train folder, or smaller shares "
            "for validation and test"
        )
    return listing, notes


def tests_of(
    classes: Sequence[str], others: Sequence[Listing], trained: Sequence[Example]
) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """Map other domains to the classes, by name; say what was left out.

    Raises:
        ValueError: If two domains have one name, or no image of one maps.
    """
    tested: dict[str, tuple[Example, ...]] = {}
    notes: list[str] = []
    for other in others:
        if other.name in tested or other.name == "id":
            raise ValueError(
                f"two test sets are called {other.name!r}: give every domain a name of its own"
            )
        mapped = map_to(classes, other, trained)
        notes += list(other.notes) + mapped.notes(other.name)
        if not mapped.examples:
            raise ValueError(
                f"no image of {other.name} can be tested: its classes "
                f"({', '.join(other.classes[:5])}, ...) do not match the training classes "
                f"({', '.join(classes[:5])}, ...), or all its files are in the training data"
            )
        tested[other.name] = mapped.examples
    return tested, notes
