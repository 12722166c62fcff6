"""The domains that a comparison trains on: the one given, or several in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.open_data import loading_of, open_data
from adaptune.commands.parser import record_of
from adaptune.commands.texts import lister_of
from adaptune.data.domains import DomainData, Track
from adaptune.data.listing import Listing, Shares
from adaptune.data.rotation import (
    domain_folders,
    in_sequence,
    leave_one_out,
    list_domains_below,
)
from adaptune.data.sources import find_domains
from adaptune.data.words import absolute_path, named_folders
from adaptune.tasks import TASKS

OWN, EACH = "own", "leave-one-out"
"""What `--domains` may say instead of names."""


@dataclass(frozen=True)
class Source:
    """The data of one training domain, and what of a config file names it."""

    data: DomainData
    named: Mapping[str, Any]


def open_sources(given: Namespace, track: Track) -> dict[str, Source]:
    """Open the data by the domain that is trained on: the one given, or each in turn.

    Raises:
        ValueError: If one is not there.
    """
    if given.domains == OWN and not given.sequence:
        data = open_data(given, seed=0, track=track)
        return {given.domain or Path(given.get("data") or given["from"]).stem: Source(data, {})}
    listings, named = _rotation(given)
    how: dict[str, Any] = {
        "shares": record_of(Shares, given),
        "loading": loading_of(given, seed=0, track=track),
    }
    if given.sequence:
        opened = in_sequence(listings, trained_of(given.sequence), **how)
    else:
        opened = leave_one_out(listings, trained=trained_of(given.domains), **how)
    return {
        name: Source(data, named[name] | {"classes": list(data.classes)})
        for name, data in opened.items()
    }


def trained_of(domains: str) -> list[str]:
    """Read which domains are trained on in turn; none means all.

    >>> trained_of("leave-one-out"), trained_of("art, photo")
    ([], ['art', 'photo'])
    """
    names = [name.strip() for name in domains.split(",")]
    return [] if domains == EACH else [name for name in names if name]


def check_domains(given: Namespace) -> None:
    """Refuse options that choose domains beside `--domains`.

    Raises:
        ValueError: If there are such.
    """
    if given.domains == OWN and not given.sequence:
        return
    if given.sequence and (given.tune or given.rates or given.domains != OWN):
        raise ValueError(
            "--sequence trains each method once a domain, at its own settings: leave out --tune, "
            "--rates and --domains"
        )
    chosen = f"--sequence {given.sequence}" if given.sequence else f"--domains {given.domains}"
    if given.source or given.target or given.get("from"):
        raise ValueError(
            f"{chosen} chooses domains itself: leave out --source, --target and --from"
        )
    if TASKS[given.task].labels != "class":
        raise ValueError(
            f"{chosen} is for folders of classes, and this is {given.task}: train "
            "on each domain by a comparison of its own"
        )
    if given.open_set:
        raise ValueError(
            f"{chosen} tests on classes that are learnt, so no image is unknown: leave out "
            "--open-set"
        )


def _rotation(given: Namespace) -> tuple[list[Listing], dict[str, dict[str, Any]]]:
    """List all domains; say for each what a run that trains on it must be given."""
    data, ood, read = Path(given.data), named_folders(given.ood), lister_of(given)
    if data.is_dir() and not ood:
        listings = list_domains_below(data, read)
        places = domain_folders(data)
    else:
        found = find_domains(data, ood, read=read)
        listings = [found.own, *found.others]
        if len(listings) > 1 and not ood:
            return listings, {one.name: {"domain": one.name} for one in listings}
        places = {listings[0].name: data, **ood}
        if len(listings) > len(places):
            raise ValueError(
                "each domain in turn takes one manifest that holds them all, or folders and "
                "manifests of one domain each: got one of several beside --ood, or below it"
            )
    paths = {name: absolute_path(path) for name, path in places.items()}
    return listings, {
        name: {"data": path, "ood": [f"{n}={p}" for n, p in paths.items() if n != name]}
        for name, path in paths.items()
    }
