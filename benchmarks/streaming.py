"""Streams that finished networks meet, and what each way of adapting to them reaches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from adaptune.commands.open_data import task_of
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs import input_of
from adaptune.data.loading import RowSource
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.results.score import Score
from adaptune.runs.folder import best_network
from adaptune.runtime.files import to_json, write_text
from adaptune.studies.grid import Failure, spread
from adaptune.types import Outputs, Unlabeled
from benchmarks.gain import gain
from benchmarks.sources.corruptions import corrupted
from benchmarks.sources.rows import Files, Pictures

Variants = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Meeting:
    """A network, and the images that come to it, plain or under ``families`` of corruption."""

    file: Path
    run: Path
    place: str
    images: RowSource
    seed: int
    batches: tuple[int, ...]
    variants: Variants
    families: tuple[str, ...] = ()
    severity: int = 0

    def __str__(self) -> str:
        return f"streams of {self.place}, seed {self.seed}"

    def said(self) -> dict[str, Any]:
        """Give what decides the results."""
        own = {"batches": list(self.batches), "seed": self.seed}
        own |= {"families": list(self.families), "severity": self.severity}
        trained = (self.run / "config.yaml").read_text()
        return {**own, "variants": to_json(self.variants), "place": self.place, "trained": trained}

    def streams(self) -> Iterator[tuple[str, RowSource]]:
        """Give the streams by name: the images as they are, or under each corruption."""
        if not self.families:
            yield self.place, self.images
            return
        assert isinstance(self.images, FileRows)
        for family in self.families:
            change = partial(corrupted, family, self.severity, 64)
            files = Files(tuple(self.images.paths))
            yield family, Pictures(files, self.images.labels, change=change)

    def rows(self, net: Network) -> Iterator[dict[str, Any]]:
        """Score each variant on each stream."""
        for name, images in self.streams():
            x, y = tensors_of(net, images, self.seed)
            for batch, (variant, said) in itertools.product(self.batches, self.variants.items()):
                reached = _reached(net, said, x, y, batch, self.seed)
                yield {
                    "pair": name,
                    "place": self.place,
                    "method": variant,
                    "seed": self.seed,
                    "batch": batch,
                    "measure": reached.name,
                    "value": reached.value,
                }


def met(meetings: list[Meeting], *, jobs: int, terminal: Terminal) -> list[dict[str, Any]]:
    """Give a row for each stream, variant and batch size; what was done before is not done again.

    Raises:
        ValueError: If one failed.
    """
    rows: dict[int, list[dict[str, Any]]] = {}
    for number, done in spread(_met, meetings, jobs=jobs, terminal=terminal, label="streams"):
        if isinstance(done, Failure):
            raise ValueError(f"{done.cell} failed: {done.reason}")
        rows[number] = done
    return [row for number in sorted(rows) for row in rows[number]]


def _met(one: Meeting, terminal: Terminal) -> list[dict[str, Any]]:
    del terminal
    if one.file.is_file():
        known = json.loads(one.file.read_text())
        if known["of"] == one.said():
            rows: list[dict[str, Any]] = known["rows"]
            return rows
    rows = list(one.rows(Network.load(best_network(one.run))))
    one.file.parent.mkdir(parents=True, exist_ok=True)
    write_text(one.file, json.dumps({"of": one.said(), "rows": rows}))
    return rows


def tensors_of(net: Network, images: RowSource, seed: int) -> tuple[Tensor, Tensor]:
    """Read all images as inputs, in an order that the seed decides."""
    assert isinstance(images, FileRows)
    seen = images.through(input_of(net.preprocess))
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed)).tolist()
    samples: list[Any] = [seen[row, 0] for row in order]
    return torch.stack([one[0] for one in samples]), torch.stack([one[1] for one in samples])


def _reached(
    net: Network, said: Mapping[str, Any], x: Tensor, y: Tensor, batch: int, seed: int
) -> Score:
    """Score one way of adapting to one stream."""
    options = {key: value for key, value in said.items() if key != "method"}
    task = task_of(net)
    method, tally = METHODS[said["method"]](deepcopy(net), task, **options), task.tally()
    rows = (Unlabeled(x[at], torch.zeros_like(at), at) for at in torch.arange(len(x)).split(batch))
    for one in stream(method, rows, Plan(seed=seed, layout="channels_last")):
        tally.add(Outputs(one.logits, y[one.index], one.logits, one.index))
    return tally.scores().main


def stream_gains(
    name: str, protocol: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Give how much each variant gains over each that it is compared with, by batch size.

    Values are means over networks, gains the mean over streams with Student's 95% interval.
    """
    variants: Variants = protocol["variants"]
    for batch, other in itertools.product(protocol["batches"], protocol["against"]):
        theirs = _values(rows, other, batch)
        for variant in protocol.get("counted", variants):
            own = _values(rows, variant, batch)
            if variant == other:
                continue
            yield gain(
                own,
                theirs,
                setting="test-time",
                variant=variant,
                said=variants[variant],
                against=other,
                measure=f"{rows[0]['measure']}, {name}, batches of {batch}",
                seeds=len({row["seed"] for row in rows}),
            )


def together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the networks that met a stream in the same way on one row."""
    reached: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    for row in rows:
        told = reached.setdefault((row["pair"], row["method"], row["batch"]), {})
        told.setdefault("values", []).append(row["value"])
        if "course" in row:
            told.setdefault("courses", []).append(row["course"])
    names = ("stream", "method", "batch")
    return [dict(zip(names, own, strict=True)) | told for own, told in reached.items()]


def _values(rows: Sequence[Mapping[str, Any]], variant: str, batch: int) -> dict[str, float]:
    reached: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == variant and row["batch"] == batch:
            reached.setdefault(row["pair"], []).append(row["value"])
    return {stream: mean(values) for stream, values in reached.items()}
