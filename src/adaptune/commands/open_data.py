"""The data that a command names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.parser import record_of
from adaptune.data.domains import DomainData, Loading, Track
from adaptune.data.labels.classes import classes_of
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.words import named_folders
from adaptune.networks.network import Network
from adaptune.runs.folder import best_network
from adaptune.tasks.task import LabelKind


def loading_of(given: Namespace, *, seed: int, track: Track) -> Loading:
    """Say how batches are made."""
    return record_of(Loading, given, seed=seed, track=track)


def open_data(
    given: Namespace, *, seed: int, track: Track, labels: LabelKind = "class"
) -> DomainData:
    """Open the data that the arguments name; without DATA, the target and other domains alone.

    ``labels`` are what the task says that they are.

    Raises:
        ValueError: If the classes are others than those of the network to start from.
    """
    ood, classes = named_folders(given.ood), given.classes
    if given.get("from"):
        own = list(Network.load(best_network(Path(given["from"]))).classes)
        if classes and classes_of(classes) != classes_of(own):
            raise ValueError(
                f"--classes are those of the network that is started from: {', '.join(own)}; leave "
                "them out"
            )
        classes = own
    common: dict[str, Any] = {
        "target": given.target or "",
        "loading": loading_of(given, seed=seed, track=track),
        "labels": labels,
        "classes": classes,
        "open_set": given.get("open_set", False),
        "oracle": given.get("oracle", False),
    }
    if given.get("data") is None:
        return other_domains(ood, **common)
    return open_domains(
        given.data,
        ood,
        sources=given.source,
        shares=record_of(Shares, given),
        domain=given.domain,
        **common,
    )
