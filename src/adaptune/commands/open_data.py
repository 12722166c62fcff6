"""The data that a command names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.options import Parser, read_config
from adaptune.commands.parser import record_of
from adaptune.commands.texts import lister_for, lister_of
from adaptune.data.domains import DomainData, Loading, Track
from adaptune.data.label_distances import read_label_distances
from adaptune.data.labels import Labels, labels_of
from adaptune.data.labels.classes import classes_of
from adaptune.data.labels.mask_table import read_mask_table
from adaptune.data.listing import Shares
from adaptune.data.loading import EmptyRows
from adaptune.data.opening import open_domains, other_domains
from adaptune.data.readers.pairs import PairSource
from adaptune.data.readers.texts import TextSource
from adaptune.data.words import is_there, named_folders, read_place
from adaptune.metrics.class_scores import ClassScore
from adaptune.networks.joint import Joint, texts_look
from adaptune.networks.network import Network, TokenInput, WholeImage
from adaptune.ops.windows import WHOLE, Tiles
from adaptune.runs.folder import best_network
from adaptune.runs.setup import Setup
from adaptune.tasks import TASKS
from adaptune.tasks.by_distance import ByDistance
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching
from adaptune.tasks.segmentation import Segmentation
from adaptune.tasks.tagging import Tagging
from adaptune.tasks.task import Task

KINDS: dict[str, Any] = {
    "data": str,
    "domain": str,
    "source": list,
    "labels": list,
    "label_table": str,
    "target": str,
    "ood": list,
    "val_share": float | int,
    "test_share": float | int,
    "ood_images": str,
    "shots": int,
    "shots_seed": int,
    "tile": int,
    "score": str,
    "overlap": int,
}
"""What a run's ``config.yaml`` says of its data, and as what."""


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


def tiles_of(folder: Path, tile: int | None, overlap: int | None) -> Tiles:
    """Say how large images are looked at: as is asked for, or else as the run's tests were.

    Raises:
        ValueError: If the overlap is none of the tile.
    """
    config = _settings(folder / "config.yaml")
    own = {name: config.get(name, getattr(Segmentation, name)) for name in ("tile", "overlap")}
    return Tiles(
        own["tile"] if tile is None else tile, own["overlap"] if overlap is None else overlap
    )


def score_of(folder: Path) -> ClassScore:
    """Say what counts of a run of classes, as its settings tell."""
    found: ClassScore = _settings(folder / "config.yaml").get("score", Classification.score)
    return found


def task_of(net: Network, tiles: Tiles = WHOLE, score: ClassScore = Classification.score) -> Task:
    """Give the task of a saved network, as its record and its head tell.

    It is of places where it reads these, of pairs where it has a space for them. ``score`` is what
    counts of classes.

    >>> from torch import nn
    >>> net = Network.from_module(nn.Sequential(nn.Linear(2, 2)), head="0", classes=["a", "b"])
    >>> task_of(net)
    Classification(classes=2, domains=1, unknown=False, score='accuracy')
    """
    if isinstance(net.preprocess, WholeImage):
        return Segmentation(len(net.classes), tile=tiles.side, overlap=tiles.overlap)
    if isinstance(net.head, Joint):
        return Matching(len(net.head.weight))
    if isinstance(net.preprocess, TokenInput):
        return Tagging(len(net.classes)).named(net.classes)
    return Classification(len(net.classes), unknown=net.threshold < 1, score=score)


def open_data(given: Namespace, *, seed: int, track: Track) -> DomainData:
    """Open the data that the arguments name; without DATA, the target and other domains alone.

    Raises:
        ValueError: If the classes are others than those of the network to start from.
    """
    ood, classes = named_folders(given.ood), given.classes
    labels = TASKS[given.get("task", Setup.task)].labels
    if labels == "text" and classes:
        raise ValueError("pairs have no classes: leave out --classes")
    if labels != "text" and given.get("from") and not given.get("words"):
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
        "masks": mask_folders(given.get("labels", [])),
        "table": given.get("label_table"),
        "texts": lister_of(given),
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


def open_run_data(
    folder: Path,
    net: Network,
    loading: Loading,
    named: Mapping[str, Path],
    *,
    masks: Mapping[str, Path] | None = None,
    table: str | None = None,
    tiles: Tiles = WHOLE,
    texts: TextSource | PairSource | None = None,
    answers: Sequence[str] = (),
    own: bool = True,
) -> DomainData:
    """Open a run's own data, or the data that is named; keep trained subjects out of tests.

    Masks and their table are the run's, with those that are given besides; ``tiles`` say how images
    of test sets are looked at. Classes are the network's, or the ``answers`` that begin with them.
    Unless the run's data have such classes of their ``own``, nothing is opened but what is named.

    Raises:
        ValueError: If the run does not know its data any more and nothing is named.
    """
    config = _settings(folder / "config.yaml")
    labels = _labels(config, net, masks or {}, table)
    labels["classes"] = tuple(answers) or labels["classes"]
    labels["texts"] = texts or lister_for(net, {}, folder)
    common = {"loading": loading, "open_set": net.threshold < 1, **labels}
    if own and _is_there(config):
        others = named or named_folders(config.get("ood", []))
        target = "" if named else config.get("target", "")
        data = _own_data(config, others, target=target, **common)
        data = data.without_own_test() if named else data
    elif named:
        data = other_domains(named, **common)
    elif "data" not in config and (config.get("target") or config.get("ood")):
        ood = named_folders(config.get("ood", []))
        data = other_domains(ood, target=config.get("target", ""), **common)
    else:
        raise ValueError(
            f"{folder} does not know its data any more: name some with --data NAME=DIR"
        )
    return data.with_input(net.preprocess, tiles=tiles, texts=texts_look(net.head))


def metric_task(file: str, net: Network) -> ByDistance:
    """Give the task of answering by the distances between labels that a file holds.

    Raises:
        ValueError: If the file is none, or the network's answers are masks or may be unknown.
    """
    if isinstance(net.preprocess, WholeImage | TokenInput) or net.threshold < 1:
        what = "says unknown by a threshold" if net.threshold < 1 else "labels every place"
        raise ValueError(
            f"--label-distances choose one answer an image by all classes' probabilities, and this "
            f"network {what}: leave it out"
        )
    known = read_label_distances(Path(file), net.classes)
    return ByDistance(len(net.classes), known.names, known.table)


def mask_labels(folder: Path, net: Network, table: str | None) -> Labels:
    """Give what reads masks of the network's classes, by a table or that of its run.

    Raises:
        ValueError: If the table lacks a class, or is none.
    """
    said = table or _settings(folder / "config.yaml").get("label_table")
    return labels_of("mask", net.classes, table=read_mask_table(Path(said)) if said else None)


def open_source_data(folder: Path, net: Network, loading: Loading) -> DomainData:
    """Open what a run learnt from and was validated on; no sets where that is gone."""
    config = _settings(folder / "config.yaml")
    if not _is_there(config):
        return DomainData(net.classes, {}, {}, EmptyRows(), loading)
    labels = _labels(config, net, {}, None) | {"texts": lister_for(net, {}, folder)}
    data = _own_data(config, {}, loading=loading, **labels)
    return data.with_input(net.preprocess, texts=texts_look(net.head))


def _is_there(config: Mapping[str, Any]) -> bool:
    return "data" in config and is_there(config["data"])


def _labels(
    config: Mapping[str, Any], net: Network, masks: Mapping[str, Path], table: str | None
) -> dict[str, Any]:
    """Say what labels are and where: the network's classes, and masks if it reads places."""
    return {
        "classes": net.classes,
        "labels": task_of(net).labels,
        "masks": mask_folders(config.get("labels", [])) | dict(masks),
        "table": table or config.get("label_table"),
    }


def _own_data(config: Mapping[str, Any], others: Mapping[str, Path], **more: Any) -> DomainData:
    """Open the data that a run's settings name, split as it was."""
    known = {field.name for field in fields(Shares)} & set(config)
    return open_domains(
        config["data"],
        others,
        shares=Shares(**{name: config[name] for name in known}),
        domain=config.get("domain"),
        sources=config.get("source", []),
        **more,
    )


def _settings(file: Path) -> dict[str, Any]:
    """Read what a run was told about its data; a network without a run has no such file."""
    config = read_config(file) if file.is_file() else {}
    settings = {name: config[name] for name in KINDS if config.get(name) is not None}
    for name, value in settings.items():
        fits = isinstance(value, KINDS[name])
        listed = value if isinstance(value, list) else []
        if not fits or not all(isinstance(word, str) for word in listed):
            raise ValueError(
                f"{file} gives {value!r} for {name}, which no run does: take the file from a copy, "
                "or move it away and name the data with --data NAME=DIR"
            )
    return settings


def add_label_distances(parser: Parser) -> None:
    """Let a command answer by a metric on labels."""
    parser.add_argument(
        "--label-distances",
        type=str,
        metavar="FILE",
        help="answer what has the least mean squared distance to the truth (Loki), by a CSV of "
        "distances between labels: a square, a tree child,parent or a graph from,to, also with "
        "labels that are none of the network's classes",
    )
