"""Each domain in turn as the one to train on, the others as tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adaptune.data.domains import DomainData, Loading
from adaptune.data.files import Passed
from adaptune.data.listing import Listing, Shares
from adaptune.data.names import normal_name, refuse_taken
from adaptune.data.opening import domains_of
from adaptune.data.readers.folder import folders_in
from adaptune.data.sources import Found, ListingReader, read_source


def leave_one_out(
    listings: Sequence[Listing],
    *,
    trained: Sequence[str] = (),
    shares: Shares | None = None,
    loading: Loading | None = None,
) -> dict[str, DomainData]:
    """Train on each domain in turn and test on all others, under the classes that all have.

    ``trained`` are the names of those to train on; by default all.

    Raises:
        ValueError: If there is one domain only, two have one name, one to train on is not there, or
            no class is in all of them.
    """
    names = [listing.name for listing in listings]
    if len(set(names)) < 2:
        raise ValueError(
            f"training on each domain in turn needs two or more of different names, and there is "
            f"{', '.join(names)}: give others with --ood, or a folder of domain folders"
        )
    for at, name in enumerate(names):
        refuse_taken([name], names[:at])
    wanted = [normal_name(name) for name in trained] or names
    if lost := [name for name in wanted if name not in names]:
        raise ValueError(f"no domain {lost[0]!r} to train on: there are {', '.join(names)}")
    classes = shared_classes(listings)
    return {
        own.name: domains_of(
            Found(own, others=tuple(other for other in listings if other is not own)),
            shares=shares,
            loading=loading,
            classes=classes,
        )
        for own in listings
        if own.name in wanted
    }


def in_sequence(
    listings: Sequence[Listing],
    names: Sequence[str],
    *,
    shares: Shares | None = None,
    loading: Loading | None = None,
) -> dict[str, DomainData]:
    """Train on domains one after the other, each tested on the test images of all of them.

    Classes are those that any of them has, so that a network has a place for those to come. Images
    of one name are in one split in every domain, so none is tested that was trained on.

    Raises:
        ValueError: If a name is not that of a domain, comes twice, or is the only one.
    """
    known = {listing.name: listing for listing in listings}
    wanted = [normal_name(name) for name in names]
    if lost := [name for name in wanted if name not in known]:
        raise ValueError(f"no domain {lost[0]!r} to train on: there are {', '.join(known)}")
    if len(set(wanted)) < len(wanted) or len(wanted) < 2:
        raise ValueError(
            f"a sequence is two domains or more, each of them once: got {', '.join(wanted)}"
        )
    classes = tuple(dict.fromkeys(one for name in wanted for one in known[name].classes))
    opened = {
        name: domains_of(Found(known[name]), shares=shares, loading=loading, classes=classes)
        for name in wanted
    }
    tests = {name: one.sets["test"] for name, one in opened.items()}
    return {
        name: replace(one, ood={other: rows for other, rows in tests.items() if other != name})
        for name, one in opened.items()
    }


def domain_folders(folder: Path) -> dict[str, Path]:
    """Find the folders of a folder of domain folders, by the name of each.

    Raises:
        ValueError: If there is no such folder, or two domains have one name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one that holds a folder a domain")
    found: dict[str, Path] = {}
    for path in folders_in(folder, Passed()):
        other = found.setdefault(normal_name(path.name), path)
        if other is not path:
            raise ValueError(
                f"two folders in {folder} are called {normal_name(path.name)!r}, differing only in "
                "how accents are written or in blanks around: rename one"
            )
    return found


def list_domains_below(folder: Path, read: ListingReader | None = None) -> list[Listing]:
    """List the domains of a folder of domain folders, by the name of each."""
    read = read or read_source
    return [one for name, path in domain_folders(folder).items() for one in read(path, name)]


def shared_classes(listings: Sequence[Listing]) -> tuple[str, ...]:
    """List the classes that every domain has.

    >>> shared_classes([Listing("a", (), ("cat", "dog")), Listing("b", (), ("dog", "emu"))])
    ('dog',)
    """
    shared = set.intersection(*(set(listing.classes) for listing in listings))
    if not shared:
        first, *_ = listings
        raise ValueError(
            f"no class is in every domain ({', '.join(one.name for one in listings)}): class "
            f"folders must have the same names, such as {', '.join(first.classes[:3])}"
        )
    return tuple(name for name in listings[0].classes if name in shared)
