"""Which images a stream is of: folders and tables, domain after domain, as often as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import Namespace

from adaptune.commands.open_data import mask_folders
from adaptune.commands.texts import examples_named
from adaptune.data.listers import listing_reader
from adaptune.data.listing import Example
from adaptune.data.loading import shuffled_keys
from adaptune.data.names import printable
from adaptune.data.readers.texts import TextSource
from adaptune.data.words import read_place
from adaptune.engine.visits import Visit, visits_of

Lister = Callable[[str, str, Namespace], tuple[list[Example], list[str]]]
"""Lists the images of a domain, by name and place, and what is to be known of it."""


def domains_named(words: Sequence[str]) -> dict[str, str]:
    """Give places by the name of their domain: what stands before =, or else the folder's own.

    Raises:
        ValueError: If two are of one name.

    >>> domains_named(["day", "night=photos/night"])
    {'day': 'day', 'night': 'photos/night'}
    """
    found: dict[str, str] = {}
    for said in map(read_place, words):
        place = Path(said.place).resolve()
        name = said.name or printable(place.name if place.is_dir() else place.stem)
        if name in found:
            raise ValueError(
                f"two domains are called {name}: give NAME=DIR, and --cycles where all come again"
            )
        found[name] = said.place
    return found


def listed_domains(given: Namespace, lists: Lister) -> tuple[dict[str, list[Example]], list[str]]:
    """List the images of each domain; beside them comes what is to be known.

    Raises:
        ValueError: If one has no image.
    """
    listed, every = dict[str, list[Example]](), list[str]()
    for name, place in domains_named(given.images).items():
        listed[name], notes = lists(name, place, given)
        if not listed[name]:
            raise ValueError("; ".join([f"no image files in {place}", *notes]))
        every += notes
    return listed, every


def examples_of(texts: TextSource | None) -> Lister:
    """Give what lists the images of a folder, or texts; a path may name a class."""

    def listed(_: str, place: str, __: Namespace) -> tuple[list[Example], list[str]]:
        return examples_named([place], texts)

    return listed


def masked_images(name: str, place: str, given: Namespace) -> tuple[list[Example], list[str]]:
    """List the images of a folder or a table, each with its mask, if it has one.

    Raises:
        ValueError: If these are several domains.
    """
    folder, (first, *_) = Path(place), domains_named(given.images)
    found = listing_reader("mask", mask_folders(given.labels), first)(folder, name)
    if any(one.part for one in found[0].examples):
        raise ValueError(f"{folder} holds tars, and a stream is of files: unpack them")
    if len(found) > 1:
        raise ValueError(f"{folder} holds {len(found)} domains: give each a table of its own")
    return list(found[0].examples), list(found[0].notes)


def in_turn(
    listed: dict[str, list[Example]], given: Namespace, seed: int
) -> tuple[list[Visit], list[Example]]:
    """Lay domains one after the other, as often as is asked for, each cycle in its own order."""
    visits = visits_of({name: len(images) for name, images in listed.items()}, given.cycles)
    every: list[Example] = []
    for one in visits:
        order: Sequence[int] = range(len(one.rows))
        if given.shuffle:
            order = [row for row, _ in shuffled_keys(len(order), seed, one.cycle - 1)]
        every += [listed[one.domain][row] for row in order]
    return visits, every
