"""What a run that goes on is begun with, and what of it may be others now."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.file_rows import FileRows
from adaptune.data.labels.masks import MaskLabels
from adaptune.data.listing import Part, Shares
from adaptune.data.names import normal_name
from adaptune.engine.method import Method, hyperparameters
from adaptune.engine.plan import Plan
from adaptune.report.terminal import Terminal
from adaptune.runs.checkpoint import FoundCheckpoint
from adaptune.runs.folder import Run, best_network
from adaptune.runs.setup import Setup
from adaptune.runs.teachers import teacher_digests

FREE = {
    *("epochs", "checkpoint_minutes", "on_nonfinite", "log", "tensorboard"),
    *("device", "devices", "shard", "compile", "workers", "cache", "strict"),
    *("classes", "tile", "overlap"),
}
"""Settings that may change: how long to train, where and how fast, what to keep.

Classes are compared as they came to be, whether they were given or found.
All others decide what is trained. Of ``epochs`` there must be no fewer than were begun.
"""

PLACES = {"data", "ood", "source", "target", "from", "teacher", "weights", "labels", "label_table"}
"""Settings that may change where the same things were moved to another place."""

LOOKED_AT = 32
"""Files of each set that tell data from others with the same names."""


def describe_run(
    method: type[Method], data: DomainData, setting: Setup, config: str
) -> dict[str, Any]:
    """Say what a run is of, for its checkpoints; ``config`` is the text of its ``config.yaml``."""
    return {
        "method": method.__name__,
        "classes": list(data.classes),
        "config": config,
        "content": _content(data, setting),
        **({"teachers": told} if (told := teacher_digests(setting.teachers)) else {}),
    }


def find_checkpoint(
    run: Run, own: Mapping[str, Any], plan: Plan, options: Mapping[str, Any], terminal: Terminal
) -> FoundCheckpoint | None:
    """Read the newest checkpoint that is whole, if there is one; say which.

    Args:
        run: The run that is to go on.
        own: What is asked for, as `describe_run` says it.
        plan: How long to train.
        options: What the method's own settings are where nothing is said of them.
        terminal: Who is told.

    Raises:
        ValueError: If the checkpoint is that of another method, of other classes or settings, or of
            more epochs; or if the run has ended and has none.
    """
    found = run.checkpoints.newest()
    if found is None:
        if run.results.is_file():
            raise ValueError(
                f"{run.folder} has ended and its checkpoints are gone, so it cannot go on: choose "
                "another --out"
            )
        return None
    for file in found.damaged:
        terminal.say(f"{file} is damaged and was passed over")
    known = found.state["of"]
    _refuse_other(found.file, known, own)
    _refuse_teachers(run.folder, known.get("teachers", []), own.get("teachers", []))
    text = known.get("config") or (run.config.read_text() if run.config.is_file() else "")
    same = known.get("content") == own["content"]
    _refuse_change(run.folder, _settings(text, run.config), _settings(own["config"]), options, same)
    if "content" in known and not same:
        terminal.say("note: the images, or what is started from, have changed since the run began")
    progress = found.state["fit"]["progress"]
    _refuse_fewer(run.folder, progress, plan.epochs)
    at = f"after epoch {progress['epoch']}" + f", step {progress['step']}" * bool(progress["step"])
    terminal.say(f"going on from {found.file}, {at}")
    return found


def _refuse_other(file: Path, known: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another method or of other classes: its labels would be others."""
    classes = [normal_name(name) for name in known["classes"]]
    if known["method"] == own["method"] and sorted(classes) == sorted(own["classes"]):
        if classes != own["classes"]:
            raise ValueError(
                f"{file} has the classes in another order, that of the version that began the run: "
                f"go on with --classes {shlex.join(classes)}"
            )
        return
    raise ValueError(
        f"{file} is of {known['method']} on {len(classes)} classes, and asked for is "
        f"{own['method']} on {len(own['classes'])}: give the run's own settings"
    )


def _refuse_teachers(folder: Path, known: Sequence[str], asked: Sequence[str]) -> None:
    """Refuse teachers that are others than those which the run began with, wherever they lie."""
    if known != asked:
        raise ValueError(
            f"{folder} was begun with {len(known)} teachers whose weights were others, or in "
            f"another order, than those of the {len(asked)} given: give the run's own to go on, or "
            "begin another run in another --out"
        )


def _refuse_change(
    folder: Path,
    known: Mapping[str, Any],
    asked: Mapping[str, Any],
    options: Mapping[str, Any],
    moved: bool,
) -> None:
    """Refuse settings that cannot apply any more, by name."""
    if not known:
        return
    usual = _defaults() | dict(options)
    free = FREE | PLACES if moved else FREE
    pairs = {
        name: [one.get(name, usual.get(name)) for one in (known, asked)]
        for name in dict.fromkeys((*known, *asked))
        if name not in free
    }
    other = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if other:
        was, now = (
            ", ".join(f"{name} {_shown(pair[at])}" for name, pair in other.items()) for at in (0, 1)
        )
        raise ValueError(
            f"{folder} was begun with {was}, and asked for is {now}, which cannot apply any more: "
            "leave that out to go on, or begin another run in another --out"
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _refuse_fewer(folder: Path, progress: Mapping[str, Any], epochs: int) -> None:
    begun = progress["epoch"] + bool(progress["step"])
    if epochs < begun:
        raise ValueError(
            f"{folder} is in epoch {begun} already, and --epochs is {epochs}: give {begun} or more "
            "to go on, or begin another run in another --out"
            if progress["step"]
            else f"{folder} was trained for {begun} epochs already, and --epochs is {epochs}: give "
            f"{begun} or more to go on, or begin another run in another --out"
        )


def _settings(text: str, file: Path | None = None) -> dict[str, Any]:
    """Read settings; those of an older run may lack some."""
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(
            f"{file} could not be read as YAML: {error}; take it from a copy, or choose another "
            "--out"
        ) from error
    return settings if isinstance(settings, dict) else {}


def _defaults() -> dict[str, Any]:
    """Give what settings are where nothing is said of them; a list of places is empty."""
    known = [one for part in (Setup, Plan, Loading, Shares) for one in fields(part)]
    usual = {one.name: one.default for one in known if one.default is not MISSING}
    return usual | {"ood": [], "source": [], "oracle": False, "words": []}


def _content(data: DomainData, setting: Setup) -> str:
    """Digest what a run learns from, is tested on and starts from, wherever it lies.

    Of images the names and labels of all count, and the bytes of a few.
    """
    told = hashlib.sha256(repr(data.classes).encode())
    others = [(f"{name} elsewhere", rows) for name, rows in data.ood.items()]
    target = (f"{data.target.name} to adapt to", data.target.rows)
    for name, rows in [*data.sets.items(), *others, target]:
        told.update(f"{name}: {len(rows)}\n".encode(errors="surrogateescape"))
        for part in _images(rows):
            told.update(part)
    begins = [str(best_network(Path(setting.start)) / "network.safetensors")] * bool(setting.start)
    for file in (*begins, setting.weights or "", *setting.words):
        told.update(_bytes(file))
    told.update("".join(teacher_digests(setting.teachers)).encode())
    return told.hexdigest()


def _images(rows: RowSource) -> Iterator[bytes]:
    if not isinstance(rows, FileRows):
        return
    for path, label in zip(rows.paths, rows.labels, strict=True):
        yield f"{path.name} {label}\n".encode(errors="surrogateescape")
    for one in rows.examples:
        if one.text is not None:
            yield one.text.encode(errors="surrogatepass")
    masked = isinstance(rows.meaning, MaskLabels)
    for row in range(0, len(rows), max(1, len(rows) // LOOKED_AT)):
        one = rows.examples[row]
        if masked:
            yield _part_bytes(Path(one.label), one.label_part)
        yield _part_bytes(one.path, one.part)


def _part_bytes(path: Path, part: Part | None) -> bytes:
    if part and part.version:
        return part.version.encode()
    return _bytes(part.file, part.offset, part.size) if part else _bytes(path)


def _bytes(file: PathLike[str] | str, start: int = 0, size: int = -1) -> bytes:
    """Digest some bytes of a file; nothing where it cannot be read, or is none."""
    path = Path(file)
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as opened:
            opened.seek(start)
            return hashlib.sha256(opened.read(size)).digest()
    except OSError:
        return b""


def usual_options(method: type[Method]) -> dict[str, Any]:
    """Give the defaults of a method's own settings."""
    return {name: one.default for name, one in hyperparameters(method).items()}
