"""The domains that a run is given, found on disk and listed; nothing is mapped or read yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from adaptune.data.listing import Listing
from adaptune.data.names import normal_name, on_disk
from adaptune.data.readers.arrow import is_hosted, read_arrow
from adaptune.data.readers.folder import is_flat, read_flat, read_folder
from adaptune.data.readers.manifest import SUFFIXES, read_manifest
from adaptune.data.readers.remote import read_remote
from adaptune.data.readers.tars import is_tars, read_tars
from adaptune.data.words import is_remote, read_place, read_word

ListingReader = Callable[[Path, str], list[Listing]]
"""Lists what lies in a place, one listing a domain, of which a single one has the name given."""


@runtime_checkable
class Unlabelling(Protocol):
    """Lists places that may lack labels, too."""

    def without_labels(self) -> ListingReader:
        """Give what lists a place whose labels may be missing."""
        ...


NOTHING = Listing("", (), ())
"""What stands for a domain that there is not."""


@dataclass(frozen=True)
class Found:
    """The domains of a run: what to train on, what to adapt to, what to test on besides.

    ``own`` and ``more`` are trained on; a run that starts from a finished network has neither.
    """

    own: Listing = NOTHING
    more: tuple[Listing, ...] = ()
    target: Listing = NOTHING
    others: tuple[Listing, ...] = ()

    @property
    def trained(self) -> tuple[Listing, ...]:
        """What is trained on, the source's own domain first."""
        return () if self.own is NOTHING else (self.own, *self.more)


def find_domains(
    source: Path | str | None,
    ood: Mapping[str, Path] | None = None,
    sources: Sequence[str] = (),
    target: Path | str = "",
    *,
    first: str | None = None,
    read: ListingReader | None = None,
) -> Found:
    """List the domains that words name.

    Args:
        source: A folder, tars or a manifest; None where there is nothing to train on.
        ood: Further domains to test on, by name.
        sources: Further domains to train on: NAME=DIR, or a domain of ``source``.
        target: What to adapt to: DIR, NAME=DIR, or a domain of ``source``.
        first: The domain of ``source`` to train on; by default its first.
        read: What lists a place; by default `read_source`.

    Raises:
        ValueError: If one is missing or empty, or two of one kind have one name.
    """
    read = read or read_source
    own, *rest = [NOTHING] if source is None else _own_domains(Path(source), first, read)
    known = {one.name: one for one in rest}
    more = [one for word in sources for one in _further(word, known, read)]
    goal = known.get(normal_name(str(target))) or _target(str(target), read) if target else NOTHING
    twice = [one.name for one in more if one.name in (own.name, goal.name) or more.count(one) > 1]
    if twice:
        raise ValueError(f"two domains are called {twice[0]!r}: give every one a name of its own")
    others = [one for one in rest if one not in (goal, *more)]
    others += [one for name, path in (ood or {}).items() for one in read(Path(path), name)]
    return Found(own, tuple(more), goal, tuple(others))


def read_source(path: Path, name: str) -> list[Listing]:
    """List what a folder, a manifest, tars, ``hf:`` or ``s3://`` places hold, one listing a domain.

    A manifest's only domain is called ``name``; of several, each has a name of its own below it.
    """
    path, name, table = on_disk(path), normal_name(name), normal_name(path.stem)
    if is_remote(path):
        return named_domains(read_remote(path, name), name, table)
    if is_hosted(path):
        return [read_arrow(path, name)]
    if is_tars(path):
        return [read_tars(path, name)]
    if path.suffix.lower() not in SUFFIXES:
        return [read_folder(path, name)]
    return named_domains(list(read_manifest(path, name).values()), name, table)


def named_domains(domains: list[Listing], name: str, table: str) -> list[Listing]:
    """Name the domains of a place: a single one as it is asked for, several below that name."""
    if len(domains) == 1:
        return [replace(domains[0], name=name)]
    if name == table:
        return domains
    return [replace(one, name=f"{name}/{one.name}") for one in domains]


def _own_domains(source: Path, first: str | None, read: ListingReader) -> list[Listing]:
    """List the domains of a source, the one to train on first.

    Raises:
        ValueError: If the source has no such domain.
    """
    found = read(source, source.stem)
    names = [listing.name for listing in found]
    wanted = names[0] if first is None else normal_name(first)
    if wanted not in names:
        raise ValueError(f"{source} has no domain {first!r}: there are {', '.join(names)}")
    return sorted(found, key=lambda listing: listing.name != wanted)


def _further(word: str, known: Mapping[str, Listing], read: ListingReader) -> list[Listing]:
    """List what a word says to train on too: NAME=DIR, or the name of a ``known`` domain.

    Raises:
        ValueError: If there is none of that name.
    """
    said = read_word(word)
    if said.place:
        return read(Path(said.place), said.name)
    if said.name not in known:
        raise ValueError(
            f"no domain {said.name!r} to train on: give NAME=DIR, or a further domain of the "
            f"manifest ({', '.join(known) or 'it has none'})"
        )
    return [known[said.name]]


def _target(word: str, read: ListingReader) -> Listing:
    """List what to adapt to: a folder, a manifest or tars, as DIR or NAME=DIR.

    A folder of images without class folders is a target without labels, all of them "".

    Raises:
        ValueError: If there is nothing, or a manifest of several domains.
    """
    said = read_place(word)
    path = said.path
    known = (*SUFFIXES, ".jsonl", ".ndjson", ".txt")
    own = path.stem if path.suffix.lower() in known else path.resolve().name
    name = said.name or normal_name(own)
    if isinstance(read, Unlabelling):
        found = read.without_labels()(path, name)
    elif read is read_source and is_remote(path):
        found = read_remote(path, name, flat=True)
    elif read is read_source and path.is_dir() and is_flat(path):
        return read_flat(path, name)
    else:
        found = read(path, name)
    if len(found) > 1:
        raise ValueError(
            f"{path} holds {len(found)} domains and one is adapted to: give each a table of its own"
        )
    return replace(found[0], name=name)
