"""The data that a command names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.parser import record_of
from adaptune.data.domains import DomainData, Loading, Track
from adaptune.data.labels.classes import classes_of
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.words import named_folders, read_place
from adaptune.networks.network import Network, WholeImage
from adaptune.runs.folder import best_network
from adaptune.runs.setup import Setup
from adaptune.tasks import TASKS
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.tasks.task import Task


def loading_of(given: Namespace, *, seed: int, track: Track) -> Loading:
    """Say how batches are made."""
    return record_of(Loading, given, seed=seed, track=track)


def mask_folders(words: Sequence[str]) -> dict[str, Path]:
    """Read where masks are, [NAME=]DIR, by the name of their domain, that of DATA being "".

    Raises:
        ValueError: If two are of one name.

    >>> mask_folders(["masks", "night=night/masks"])
    {'': PosixPath('masks'), 'night': PosixPath('night/masks')}
    """
    folders: dict[str, Path] = {}
    for said in map(read_place, words):
        if said.name in folders:
            raise ValueError(
                f"two folders of masks are of {said.name or 'DATA'}: give one, and those of other "
                "domains as NAME=DIR"
            )
        folders[said.name] = said.path
    return folders


def task_of(net: Network) -> Task:
    """Give the task of a saved network, as its record tells: of places where it reads these.

    >>> from torch import nn
    >>> net = Network.from_module(nn.Sequential(nn.Linear(2, 2)), head="0", classes=["a", "b"])
    >>> task_of(net)
    Classification(classes=2, domains=1, unknown=False)
    """
    if isinstance(net.preprocess, WholeImage):
        return Segmentation(len(net.classes))
    return Classification(len(net.classes), unknown=net.threshold < 1)


def open_data(given: Namespace, *, seed: int, track: Track) -> DomainData:
    """Open the data that the arguments name; without DATA, the target and other domains alone.

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
        "labels": TASKS[given.get("task", Setup.task)].labels,
        "masks": mask_folders(given.get("labels", [])),
        "table": given.get("label_table"),
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
