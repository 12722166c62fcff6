"""Folders and manifests as what a run trains on and tests on: kept to its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.listing import Example, Listing, map_to
from adaptune.data.names import (
    class_finder,
    first_few,
    normal_name,
    on_disk,
    refuse_taken,
    similar_names,
)
from adaptune.data.readers.folder import is_flat, read_flat, read_folder
from adaptune.data.readers.manifest import SUFFIXES, read_manifest
from adaptune.data.readers.tars import is_tars, read_tars


def read_source(path: Path, name: str) -> list[Listing]:
    """List what a folder, a manifest or tars hold, one listing a domain.

    A manifest's only domain is called ``name``; of several, each has a name of its own below it.
    """
    path, name, table = on_disk(path), normal_name(name), normal_name(path.stem)
    if is_tars(path):
        return [read_tars(path, name)]
    if path.suffix.lower() not in SUFFIXES:
        return [read_folder(path, name)]
    domains = list(read_manifest(path, name).values())
    if len(domains) == 1:
        return [replace(domains[0], name=name)]
    if name == table:
        return domains
    return [replace(one, name=f"{name}/{one.name}") for one in domains]


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=DIR`` words.

    Raises:
        ValueError: If a word has no name, or the name is that of another set.

    >>> named_folders(["sketch=data/sketch"])
    {'sketch': PosixPath('data/sketch')}
    """
    folders: dict[str, Path] = {}
    for word in words:
        said, equals, folder = word.partition("=")
        name = normal_name(said)
        if not (name and equals and folder):
            raise ValueError(f"expected NAME=DIR, such as sketch=data/sketch, and got {word!r}")
        same = name in folders and folders[name].absolute() == Path(folder).absolute()
        refuse_taken([name], [] if same else folders)
        folders[name] = Path(folder)
    return folders


def list_domains(
    source: Path, others: Mapping[str, Path], first: str | None = None
) -> list[Listing]:
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
    wanted = names[0] if first is None else normal_name(first)
    if wanted not in names:
        raise ValueError(f"{source} has no domain {first!r}: there are {', '.join(names)}")
    found.sort(key=lambda listing: listing.name != wanted)
    for name, path in others.items():
        found += read_source(Path(path), name)
    return found


def further_domains(words: Sequence[str], others: Sequence[Listing]) -> list[Listing]:
    """List further domains to train on: NAME=DIR, or the name of one of ``others``.

    Raises:
        ValueError: If there is none of that name.
    """
    known = {one.name: one for one in others}
    found: list[Listing] = []
    for word in words:
        name, equals, place = word.partition("=")
        if equals:
            found += read_source(Path(place), name)
        elif normal_name(name) in known:
            found.append(known[normal_name(name)])
        else:
            raise ValueError(
                f"no domain {name!r} to train on: give NAME=DIR, or a further domain of the "
                f"manifest ({', '.join(known) or 'it has none'})"
            )
    return found


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
    if not listing.of("train"):
        raise ValueError(
            f"{listing.name} holds no training images: give it a train folder, or smaller shares "
            "for validation and test"
        )
    return listing, notes


def spell_as(classes: Sequence[str], listing: Listing) -> Listing:
    """Give the labels of another source the spelling of the classes, where only case differs."""
    find = class_finder(classes)
    examples = (replace(e, label=find(e.label) or e.label) for e in listing.examples)
    return replace(listing, examples=tuple(examples))


def read_target(said: str) -> Listing:
    """List what to adapt to: a folder, a manifest or tars, as DIR or NAME=DIR.

    A folder of images without class folders is a target without labels, all of them "".

    Raises:
        ValueError: If there is nothing, or a manifest of several domains.
    """
    name, equals, place = said.partition("=")
    if not equals or on_disk(Path(said)).exists():
        path = on_disk(Path(said))
        name = path.stem if path.suffix.lower() in SUFFIXES else path.resolve().name
    else:
        path = on_disk(Path(place))
    name = normal_name(name)
    if path.is_dir() and is_flat(path):
        return read_flat(path, name)
    found = read_source(path, name)
    if len(found) > 1:
        raise ValueError(
            f"{path} holds {len(found)} domains and one is adapted to: give each a table of its own"
        )
    return replace(found[0], name=name)


def target_tests(
    classes: Sequence[str],
    target: Listing,
    trained: Sequence[Example],
    *,
    open_set: bool,
) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """Map the target's labels, as `tests_of`; where none maps, say that nothing is tested."""
    if not target.examples:
        return {}, []
    refuse_taken([target.name])
    if not target.classes:
        return {}, [*target.notes, f"{target.name}: has no labels, so it is adapted to, not tested"]
    mapped = map_to(classes, target, trained, open_set=open_set)
    notes = [*target.notes, *mapped.notes(target.name)]
    if not mapped.examples:
        return {}, [*notes, f"{target.name}: none of its images can be tested"]
    return {target.name: mapped.examples}, notes


def tests_of(
    classes: Sequence[str],
    others: Sequence[Listing],
    trained: Sequence[Example],
    taken: Collection[str],
    *,
    open_set: bool,
) -> tuple[dict[str, tuple[Example, ...]], list[str]]:
    """Map other domains to the classes, as `map_to`; say what was left out.

    Names that are ``taken`` are those of other sets.

    Raises:
        ValueError: If two sets have one name, or no image of one maps.
    """
    tested: dict[str, tuple[Example, ...]] = {}
    notes: list[str] = []
    for other in others:
        refuse_taken([other.name], {*tested, *taken})
        mapped = map_to(classes, other, trained, open_set=open_set)
        notes += list(other.notes) + mapped.notes(other.name)
        if not mapped.examples:
            raise ValueError(
                f"no image of {other.name} can be tested: its classes "
                f"({', '.join(other.classes[:5])}, ...) do not match the training classes "
                f"({', '.join(classes[:5])}, ...), or all its files are in the training data"
            )
        tested[other.name] = mapped.examples
    return tested, notes
