"""`adaptune doctor`: what is wrong with data and batch norms, before you train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from adaptune.commands.options import (
    Parser,
    add_json,
    add_ood,
    loading,
    named_folders,
    print_json,
    record,
)
from adaptune.data.domains import ImageDomains, Loading, open_domains
from adaptune.data.images import ImageFiles
from adaptune.data.listing import Shares
from adaptune.network import Network
from adaptune.ops.batchnorm import describe_batchnorm, other_norms
from adaptune.ops.conversion import ConversionReport, convert_batchnorm
from adaptune.terminal import Terminal
from adaptune.training import Setting
from adaptune.types import Labeled

FEW = 5
"""Training images of a class under which people are warned."""

FAR = 1.0
"""Shift of a layer's means, in old deviations, from which it is worth a word."""


def run(words: Sequence[str]) -> None:
    """Open every image, count what there is, and measure every batch norm."""
    parser = Parser(
        prog="adaptune doctor",
        description="Say what is wrong with data and, given --backbone, with its batch norms.",
    )
    parser.add_argument("data", type=str, help="a folder of class folders, or a manifest")
    add_ood(parser)
    parser.add_argument("--backbone", type=str, help="a network whose batch norms to look at")
    parser.add_class_arguments(Setting, skip={"backbone", "augment", "precision", "select"})
    parser.add_class_arguments(Loading, skip={"seed", "track"})
    parser.add_class_arguments(Shares)
    add_json(parser)
    given = parser.parse_args(list(words))
    with Terminal() as terminal:
        data = open_domains(
            given.data,
            named_folders(given.ood),
            shares=record(Shares, given),
            loading=loading(given, seed=0, track=terminal.track),
        )
        found: dict[str, Any] = {"counts": _counts(data)}
        norms: list[str] = []
        if given.backbone is not None:
            net = record(Setting, given).network(data.classes)
            data = data.seen_through(net.preprocess)
            found["conversion"], norms = _norms(net, data.scan("train"))
        scanned = bool(found.get("conversion", {}).get("batches"))
        _read_all(data, scanned)
        found["problems"] = dict(data.problems)
        found["findings"] = [*data.notes, *_findings(data, found["counts"]), *norms]
        _tell(terminal, data, found)
    if given.json:
        print_json(found)


def _counts(data: ImageDomains) -> dict[str, dict[str, int]]:
    """Count images of each class, split by split and domain by domain."""
    return {
        str(name): dict(Counter(data.classes[label] for label in rows.labels))
        for name, rows in (*data.sets.items(), *data.ood.items())
        if isinstance(rows, ImageFiles)
    }


def _read_all(data: ImageDomains, scanned: bool) -> None:
    """Read what no scan has read yet; the data notes by themselves what cannot be read."""
    sets: list[Iterable[Labeled]] = [*data.tests().values(), data.scan("val")]
    for rows in sets if scanned else [*sets, data.scan("train")]:
        for _ in rows:
            pass


def _findings(data: ImageDomains, counts: dict[str, dict[str, int]]) -> list[str]:
    train = counts.get("train", {})
    said = []
    few = [f"{name} ({train[name]})" for name in data.classes if 0 < train.get(name, 0) < FEW]
    if few:
        said.append(f"classes with fewer than {FEW} training images: {', '.join(few)}")
    for split in ("val", "test"):
        if not counts.get(split):
            said.append(f"no images for {split}: give a {split} folder or a larger share")
    if train and max(train.values()) > 10 * min(train.values()):
        said.append(
            f"classes are uneven: from {min(train.values())} to {max(train.values())} images; "
            "accuracy over all images will hide the small ones"
        )
    return said


def _norms(net: Network, rows: Iterable[Labeled]) -> tuple[dict[str, Any], list[str]]:
    """Measure how far the data are from what each batch norm was trained on."""
    states = describe_batchnorm(net.body)
    report: ConversionReport = convert_batchnorm(net.body, rows)
    said = [f"{state.name}: {note}" for state in states for note in state.notes]
    if not states:
        kinds = ", ".join(other_norms(net.body)) or "no normalisation"
        said.append(
            f"{net.origin.name} has no batch norm (it has {kinds}): conversion does nothing"
        )
    far = sorted((layer for layer in report.layers if layer.shift > FAR), key=lambda x: -x.shift)
    if far:
        most = ", ".join(f"{layer.name} ({layer.shift:.1f})" for layer in far[:5])
        said.append(
            f"{len(far)} of {len(states)} batch norms see means more than {FAR:g} old deviation "
            f"away, most in {most}: convert them (daft does) or hold them in eval"
        )
    dead = sum(len(layer.dead) for layer in report.layers)
    if dead:
        said.append(f"{dead} batch-norm channels are all but constant on these images")
    return {**report.to_dict(), "states": [asdict(state) for state in states]}, said


def _tell(terminal: Terminal, data: ImageDomains, found: dict[str, Any]) -> None:
    counts: dict[str, dict[str, int]] = found["counts"]
    names = list(counts)
    terminal.table(
        "images by class",
        ["class", *names],
        [[label, *(str(counts[name].get(label, 0)) for name in names)] for label in data.classes],
    )
    for finding in found["findings"]:
        terminal.say(f"- {finding}")
    for path, reason in found["problems"].items():
        terminal.say(f"- cannot be read: {path}: {reason}")
    if not found["findings"] and not found["problems"]:
        terminal.say("nothing wrong found")
