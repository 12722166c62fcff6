"""`adaptune doctor`: what is wrong with data and batch norms, before you train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.batchnorm.conversion import ConversionReport, convert_batchnorm
from adaptune.batchnorm.layers import describe_batchnorm, other_norms
from adaptune.commands.mask_findings import pixel_counts, shares, without_labels
from adaptune.commands.open_data import loading_of, mask_folders
from adaptune.commands.options import (
    Parser,
    add_columns,
    add_json,
    add_ood,
    add_task_choice,
    print_json,
    record_of,
)
from adaptune.commands.pair_findings import PAIR_COUNTS, pair_counts
from adaptune.commands.shift_findings import measure_shift, shift_table
from adaptune.commands.texts import lister_of, pair_source, text_source
from adaptune.data.domains import DomainData
from adaptune.data.duplicates import describe_duplicates, find_duplicates
from adaptune.data.file_rows import FileRows
from adaptune.data.labels.tags import counted_tags
from adaptune.data.listers import listing_reader
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.loading import Loading
from adaptune.data.missing import missing_parts
from adaptune.data.names import printable
from adaptune.data.opening import domains_of
from adaptune.data.readers.pairs import PairSource
from adaptune.data.readers.texts import TextSource
from adaptune.data.sources import Found, find_domains
from adaptune.data.text_lengths import measure_lengths
from adaptune.data.words import named_folders
from adaptune.networks.joint import texts_look
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.setup import Setup
from adaptune.tasks import TASKS
from adaptune.types import Labeled

FEW = 5
"""Training images of a class under which people are warned."""

MASKED = "pixels by class, in percent of each set"
TITLES = {"mask": MASKED, "tags": "words by tag", "text": "pairs"}
"""What is counted by class, where it is not images."""

FAR = 1.0
"""Shift of a layer's means, in old deviations, from which it is worth a word."""


def run(words: Sequence[str]) -> None:
    """Open every image, count what there is, and measure every batch norm.

    Raises:
        ValueError: If something would stop training; its message has a line for each such thing.
    """
    parser = Parser(
        prog="adaptune doctor",
        description="Say what is wrong with data and, given --backbone, with its batch norms.",
    )
    parser.add_argument("data", type=str, help="a folder of class folders, or a manifest")
    add_ood(parser)
    add_columns(parser)
    parser.add_argument("--backbone", type=str, help="a network whose batch norms to look at")
    own = {"weights", "image_size", "crop", "text_length", "device"}
    parser.add_class_arguments(Setup, skip={f.name for f in fields(Setup)} - own)
    parser.add_class_arguments(Loading, skip={"seed", "track", "balanced"})
    parser.add_class_arguments(Shares)
    add_task_choice(parser, words)
    add_json(parser)
    given = parser.parse_args(list(words))
    wrong: list[Exception] = []
    found: dict[str, Any] = {"counts": {}, "problems": {}, "findings": [], "duplicates": []}
    with Terminal() as terminal:
        data = _opened(given, terminal, wrong)
        net = _network(given, data.classes if data is not None else ("a", "b"), wrong)
        for note in net.notes if net is not None else ():
            terminal.say(f"note: {note}")
        if data is not None:
            found |= _looked_through(data, net, wrong)
            _tell(terminal, data, found, healthy=not wrong)
    if given.json:
        print_json(found | {"errors": list(map(str, wrong))})
    if wrong:
        raise ValueError("\nalso: ".join(map(str, wrong))) from wrong[0]


@contextmanager
def _noting(wrong: list[Exception]) -> Iterator[None]:
    """Keep what would stop training, and go on."""
    try:
        yield
    except (ValueError, OSError) as error:
        if str(error) not in map(str, wrong):
            wrong.append(error)


def _opened(given: Namespace, terminal: Terminal, wrong: list[Exception]) -> DomainData | None:
    """Open the data without the domains that cannot be; each of those is noted."""
    parts, loads = record_of(Shares, given), loading_of(given, seed=0, track=terminal.track)
    found, others = Found(), list[Listing]()
    kind, masks = TASKS[given.task].labels, mask_folders(given.get("labels", []))
    read = listing_reader(kind, masks, Path(given.data).stem, _texts(given))
    opened = partial(
        domains_of, shares=parts, loading=loads, labels=kind, table=given.get("label_table")
    )
    with _noting(wrong):
        found = find_domains(given.data, read=read)
    for name, path in named_folders(given.ood).items():
        with _noting(wrong):
            others += find_domains(None, {name: path}, read=read).others
    data: DomainData | None = None
    kept = Found(found.own)
    with _noting(wrong):
        data = opened(kept) if found.trained else None
    for other in (*found.others, *others) if data is not None else ():
        with _noting(wrong):
            more = replace(kept, others=(*kept.others, other))
            data, kept = opened(more), more
    return data


def _texts(given: Namespace) -> TextSource | PairSource | None:
    """Give what lists texts, where the network reads these, or the data can be nothing else."""
    kind = TASKS[given.task].labels
    suffix = Path(given.data).suffix.lower()
    told = kind == "tags" or given.text_column or suffix in (".jsonl", ".ndjson")
    if told and not given.backbone:
        if kind == "text":
            return pair_source(given, texts=True)
        return text_source(given, tags=kind == "tags")
    return lister_of(given)


def _network(given: Namespace, classes: tuple[str, ...], wrong: list[Exception]) -> Network | None:
    """Build the network that is asked for, by its name or by its weights."""
    if given.backbone is None and given.weights is None:
        return None
    with _noting(wrong):
        named = {"backbone": given.backbone or Setup.backbone}
        return record_of(Setup, given, **named).network(classes)
    return None


def _looked_through(
    data: DomainData, net: Network | None, wrong: list[Exception]
) -> dict[str, Any]:
    """Read everything once, and say what there is and what is odd about it."""
    found: dict[str, Any] = {}
    norms: list[str] = []
    wrong += map(ValueError, missing_parts(data.classes, data.sets, data.labels))
    if net is not None:
        data = data.with_input(net.preprocess, texts=texts_look(net.head))
        if data.ood and data.labels == "class":
            with _noting(wrong):
                found["shift"] = measure_shift(net, _by_domain(data))
        with _noting(wrong):
            found["conversion"], norms = _norms(net, data.scan("train"))
    scanned = bool(found.get("conversion", {}).get("batches"))
    _read_all(data, wrong, seen=found.get("shift", {}).get("icv", {"train": 0} if scanned else {}))
    files = {
        str(name): rows
        for name, rows in (*data.sets.items(), *data.ood.items())
        if isinstance(rows, FileRows)
    }
    masked, paired = data.labels == "mask", data.labels == "text"
    counts, odd = pixel_counts(data.classes, files) if masked else (_counts(data, files), [])
    same = find_duplicates(without_labels(data, files))
    return found | {
        "counts": counts,
        "problems": dict(data.problems),
        "findings": [
            *data.notes,
            *(odd if masked or paired else _findings(data, files, counts)),
            *describe_duplicates(same),
            *norms,
            *_lengths(files),
        ],
        "duplicates": [[printable(place.path) for place in group] for group in same],
    }


def _lengths(files: Mapping[str, FileRows]) -> list[str]:
    """Say how long texts are, set by set, and their partners."""
    sides = [(what, name) for what in ("texts", "partners") for name in files]
    found = [measure_lengths(files[name], partners=what == "partners") for what, name in sides]
    return [one.described(n, w) for (w, n), one in zip(sides, found, strict=True) if one]


def _counts(data: DomainData, files: Mapping[str, FileRows]) -> dict[str, dict[str, int]]:
    """Count images that can be read of each class, or pairs, or words by tag, set by set."""
    read = {
        name: [one for one in rows.examples if printable(one.path) not in data.problems]
        for name, rows in files.items()
    }
    if data.labels == "text":
        return {name: pair_counts(own) for name, own in read.items()}
    return {name: dict(_counted(data, own)) for name, own in read.items()}


def _counted(data: DomainData, examples: Sequence[Example]) -> Counter[str]:
    tags = data.labels == "tags"
    return counted_tags(examples) if tags else Counter(one.label for one in examples)


def _by_domain(data: DomainData) -> dict[str, Iterable[Labeled]]:
    """Give training and validation images, and those of each other domain."""
    others = {name: rows for name, rows in data.tests().items() if name != "id"}
    own = {"train": data.scan("train"), "val": data.scan("val")}
    return {name: rows for name, rows in own.items() if name in data.sets} | others


def _read_all(data: DomainData, wrong: list[Exception], *, seen: Collection[str]) -> None:
    """Read what nothing has seen yet; the data notes by themselves what cannot be read."""
    for name, rows in {**_by_domain(data), **data.tests()}.items():
        if name in seen:
            continue
        with _noting(wrong):
            for _ in rows:
                pass


def _findings(
    data: DomainData, files: Mapping[str, FileRows], counts: dict[str, dict[str, int]]
) -> list[str]:
    train = counts.get("train", {})
    said = []
    images = _counted(data, files["train"].examples)
    what = "words" if data.labels == "tags" else "images"
    lost = [f"{name} ({images[name]})" for name in images if name not in train]
    if lost:
        said.append(f"classes whose training images can none of them be read: {', '.join(lost)}")
    few = [f"{name} ({train[name]})" for name in data.classes if 0 < train.get(name, 0) < FEW]
    if few:
        said.append(f"classes with fewer than {FEW} training {what}: {', '.join(few)}")
    if what == "images" and train and max(train.values()) > 10 * min(train.values()):
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


def _tell(terminal: Terminal, data: DomainData, found: dict[str, Any], *, healthy: bool) -> None:
    counts: dict[str, dict[str, int]] = found["counts"]
    names = list(counts)
    masked = data.labels == "mask"
    labels = PAIR_COUNTS if data.labels == "text" else data.classes
    terminal.table(
        TITLES.get(data.labels, "images by class"),
        ["", *names] if data.labels == "text" else ["class", *names],
        shares(counts, data.classes)
        if masked
        else [[label, *(str(counts[name].get(label, 0)) for name in names)] for label in labels],
    )
    if "shift" in found:
        terminal.table("domain shift, in nats", *shift_table(found["shift"]))
    for finding in found["findings"]:
        terminal.say(f"- {finding}")
    for path, reason in found["problems"].items():
        terminal.say(f"- cannot be read: {path}: {reason}")
    if healthy and not found["findings"] and not found["problems"]:
        terminal.say("nothing wrong found")
