"""What comes of a stream's answers: lines or masks at once, and scores where labels are known."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.commands.masks import save_mask
from adaptune.commands.predictions import COLUMNS, PredictionLines, answers_of
from adaptune.data.inputs.image import size_of
from adaptune.data.labels import LabelReader
from adaptune.data.listing import Example
from adaptune.engine.evaluate import logits_of
from adaptune.engine.visits import Visit
from adaptune.metrics.classification import accuracy
from adaptune.metrics.places import PlaceTally
from adaptune.networks.network import Network
from adaptune.ops.places import best_classes
from adaptune.ops.windows import WHOLE, bands
from adaptune.results.score import Score
from adaptune.tasks.task import Task
from adaptune.types import Outputs, Unlabeled

LATE = 0.25
"""The share of the stream, at its end, whose score is also given by itself."""

Told = dict[str, dict[str, Any]]
"""Scores of both networks: of all that is known, and of the last."""


class Answers(Protocol):
    """Takes a stream's answers batch by batch, beside those of a network that stays as it is.

    ``beside`` are that network's outputs of the batch at hand; None where it is not asked.
    """

    out: Path
    beside: Tensor | None

    def opened(self) -> AbstractContextManager[None]:
        """Give the context within which answers are written."""
        ...

    def asking(self, batches: Iterable[Unlabeled]) -> Iterator[Unlabeled]:
        """Pass batches on; where labels are known, ask the network that does not adapt first."""
        ...

    def take(self, logits: Tensor, index: Tensor) -> None:
        """Write the answers to a batch."""
        ...

    def scores(self) -> Told:
        """Score what was said of images whose label is known: of all, and of the last ones."""
        ...

    def scores_of(self, visit: Visit) -> dict[str, Any]:
        """Score what both said of a visit to a domain; nothing where no label is known."""
        ...


@dataclass
class LineAnswers:
    """Lines of a CSV, and ``labels`` by row; ``net`` is the network that stays as it is."""

    labels: dict[int, int]
    net: Network
    task: Task
    fabric: Fabric
    lines: PredictionLines
    out: Path
    unadapted: dict[int, float] = field(default_factory=dict)
    beside: Tensor | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file, and write in the end what could not be read."""
        with self.out.open("w", 1, "utf-8", "surrogateescape", newline="") as file:
            self.writer = csv.writer(file)
            self.writer.writerow(COLUMNS)
            yield
            self.writer.writerows(self.lines.rest())

    def asking(self, batches: Iterable[Unlabeled]) -> Iterator[Unlabeled]:
        """Pass batches on; where labels are known, ask the network that does not adapt first."""
        for batch in batches:
            rows = batch.index.tolist()
            self.beside = None
            if any(row in self.labels for row in rows):
                self.beside = logits_of(self.net, batch, self.fabric)
                said = answers_of(self.net, self.task, self.beside)
                self.unadapted |= zip(rows, said, strict=True)
            yield batch

    def take(self, logits: Tensor, index: Tensor) -> None:
        """Write a line for each image."""
        self.writer.writerows(self.lines.answered(logits, index))

    def scores(self) -> Told:
        """Score the answers by their accuracy."""
        known = [row for row in sorted(self.lines.answers) if row in self.labels]
        return {
            name: {"all": self._score(said, known), "last": self._score(said, last_of(known))}
            for name, said in self._said().items()
            if known
        }

    def scores_of(self, visit: Visit) -> dict[str, Any]:
        """Score the answers to a visit by their accuracy."""
        answered = self.lines.answers
        known = [row for row in visit.rows if row in answered and row in self.labels]
        return {name: self._score(said, known) for name, said in self._said().items() if known}

    def _said(self) -> dict[str, Mapping[int, float]]:
        return {"adapted": self.lines.answers, "unadapted": self.unadapted}

    def _score(self, said: Mapping[int, float], rows: Sequence[int]) -> dict[str, float]:
        right = sum(said[row] == self.labels[row] for row in rows)
        return told_of(accuracy(right, len(rows)), len(rows))


class MaskAnswers:
    """A mask of each image, of its own size, at the ``places``; scored where one is known.

    Args:
        examples: The images in the stream's order, with their masks.
        places: Where the mask of each goes.
        meaning: Reads masks.
        net: The network that stays as it is.
        fabric: Where it lies.
        problems: What could not be read, by row; masks that cannot be are added.
        out: The folder that they go to.
        visits: The visits to domains, whose scores are asked for.
    """

    beside: Tensor | None = None

    def __init__(
        self,
        examples: Sequence[Example],
        places: Sequence[Path],
        meaning: LabelReader,
        net: Network,
        fabric: Fabric,
        problems: dict[int, str],
        out: Path,
        visits: Sequence[Visit],
    ) -> None:
        self.out = out
        self.examples, self.places, self.meaning = examples, places, meaning
        self.net, self.fabric, self.problems = net, fabric, problems
        known = [row for row, one in enumerate(examples) if one.label]
        self.parts = {"all": set(known), "last": set(last_of(known))}
        self.parts |= {str(one): {row for row in known if row in one.rows} for one in visits}
        self.tallies = {
            (name, part): PlaceTally(len(net.classes))
            for name in ("adapted", "unadapted")
            for part in self.parts
        }

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open nothing: each mask is a file of its own."""
        yield

    def asking(self, batches: Iterable[Unlabeled]) -> Iterator[Unlabeled]:
        """Pass batches on; where masks are known, ask the network that does not adapt first."""
        for batch in batches:
            rows = batch.index.tolist()
            self.beside = None
            if any(row in self.parts["all"] for row in rows):
                self.beside = logits_of(self.net, batch, self.fabric)
                for output, row in zip(self.beside, rows, strict=True):
                    self._count("unadapted", output, row)
            yield batch

    def take(self, logits: Tensor, index: Tensor) -> None:
        """Write a mask for each image."""
        for output, row in zip(logits.float(), index.tolist(), strict=True):
            self._count("adapted", output, row)
            size = size_of(self.examples[row].path, self.examples[row].part)
            mask = torch.empty(size, dtype=torch.uint8)
            for down, across, some in bands(output, size, WHOLE):
                mask[down, across] = best_classes(some)[1].cpu()
            save_mask(mask, self.places[row])

    def _count(self, name: str, output: Tensor, row: int) -> None:
        if row not in self.parts["all"]:
            return
        try:
            y = self.meaning.read(self.examples[row])[None].to(output.device)
        except OSError as error:
            self.problems[row] = str(error)
            return
        outputs = Outputs(output[None], y, output[None], torch.tensor([row]))
        for part, rows in self.parts.items():
            if row in rows:
                self.tallies[name, part].add(outputs)

    def scores(self) -> Told:
        """Score the masks by their mean IoU; nothing where none is known."""
        told: Told = {}
        for part in ("all", "last"):
            for name, found in self._scores(part).items():
                told.setdefault(name, {})[part] = found
        return told

    def scores_of(self, visit: Visit) -> dict[str, Any]:
        """Score the masks of a visit by their mean IoU."""
        return self._scores(str(visit))

    def _scores(self, part: str) -> dict[str, dict[str, float]]:
        """Score both networks on a part of the stream, where something of it was asked."""
        told = dict[str, dict[str, float]]()
        for name in ("adapted", "unadapted"):
            try:
                found = self.tallies[name, part].scores()
            except ValueError:  # nothing was asked
                continue
            told[name] = told_of(found.main, found.count)
        return told


def last_of(rows: Sequence[int]) -> Sequence[int]:
    """Give the last rows, a share of `LATE`.

    >>> last_of([1, 2, 3, 4, 5])
    [4, 5]
    """
    return rows[len(rows) - math.ceil(LATE * len(rows)) :]


def told_of(score: Score, count: int) -> dict[str, float]:
    """Give a score as JSON has it."""
    return {score.name: score.value, "low": score.low, "high": score.high, "count": count}
