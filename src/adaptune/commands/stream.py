"""`adaptune stream`: images labelled as they come, by a network that adapts to them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from adaptune.commands.choices import STREAMING
from adaptune.commands.open_data import loading_of
from adaptune.commands.options import (
    Parser,
    add_json,
    add_method,
    fabric_on,
    find_method_name,
    print_json,
    record_of,
)
from adaptune.commands.outputs import writable_file
from adaptune.commands.predictions import COLUMNS, PredictionLines, answers_of
from adaptune.data.domains import Loading
from adaptune.data.files import image_files
from adaptune.data.inputs import input_of
from adaptune.data.loading import shuffled_keys
from adaptune.data.names import printable
from adaptune.data.stream_reader import StreamReader, folder_labels
from adaptune.engine.batches import to_device
from adaptune.engine.evaluate import logits_of
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.metrics.classification import accuracy
from adaptune.networks.network import Network, WholeImage
from adaptune.report.terminal import NAMED, Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.signals import Signals, Stopped
from adaptune.tasks.classification import Classification
from adaptune.tasks.task import Task
from adaptune.types import Unlabeled

TAKEN = {
    Plan: {"momentum", "weight_decay", "clip", "layout", "on_nonfinite", "seed"},
    Loading: {"batch_size", "workers", "cache"},
}
"""What a stream takes of records that other commands take more of."""

LATE = 0.25
"""The share of the stream, at its end, whose accuracy is also given by itself."""


def run(words: Sequence[str]) -> None:
    """Write each image's line as soon as its batch is answered; score where labels are known."""
    name = find_method_name(words, default="alpha-bn")
    given = _parser(name).parse_args(list(words))
    folder = Path(given.images)
    files, notes = image_files([folder])
    if not files:
        raise ValueError("; ".join([f"no image files in {folder}", *notes]))
    out = writable_file(given.out, "predictions.csv")
    plan, fabric = record_of(Plan, given), fabric_on(given.device)
    if given.shuffle:
        files = [files[row] for row, _ in shuffled_keys(len(files), plan.seed, 0)]
    net = Network.load(best_network(Path(given.run)))
    if isinstance(net.preprocess, WholeImage):
        raise ValueError("a stream is of one answer an image, and this network has one a place")
    options = {key: given[key] for key in hyperparameters(METHODS[name])}
    with Terminal() as terminal:
        for note in notes:
            terminal.say(f"note: {note}")
        loading = loading_of(given, seed=plan.seed, track=terminal.track)
        reader = StreamReader(files, input_of(net.preprocess), loading)
        task = Classification(len(net.classes))
        known = Known(folder_labels(files, folder, net.classes), deepcopy(net).eval(), task, fabric)
        to_device(known.net, fabric)
        lines = PredictionLines(files, known.net, task, reader.problems)
        method = METHODS[name](net, task, **options)
        with _kept(out), out.open("w", 1, "utf-8", "surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            batches = known.asking(reader.batches("answering"))
            for one in stream(method, batches, plan, fabric=fabric, episodic=given.episodic):
                writer.writerows(lines.answered(one.logits, one.index))
            writer.writerows(lines.rest())
        problems = {files[row]: reason for row, reason in reader.problems.items()}
        for path, reason in list(problems.items())[:NAMED]:
            terminal.say(f"left out {printable(path)}: {reason}")
        said = f", {len(problems)} of them could not be read" if problems else ""
        terminal.say(f"{len(files)} images{said}: {out}")
        scores = known.scores(lines.answers)
        _show(terminal, scores)
    if given.json:
        told = {"network": given.run, "method": name, "images": len(files), "out": given.out}
        left_out = {str(path): reason for path, reason in problems.items()}
        print_json(told | {"scores": scores, "problems": left_out})


def _parser(name: str) -> Parser:
    parser = Parser(
        prog="adaptune stream",
        description="Label a folder of images in the order of their names, batch by batch, with a "
        "network that adapts to them as it goes and sees no label. Names of folders that are "
        f"classes are used to score it, and for nothing else. (Options shown: those of {name}.)",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument("images", type=str, help="a folder of images, flat or by class")
    parser.add_argument("--method", choices=STREAMING, default="alpha-bn", help="how to adapt")
    parser.add_argument(
        "--episodic",
        action="store_true",
        help="begin anew with each batch, as if it were the first",
    )
    parser.add_argument(
        "--shuffle", action="store_true", help="take the images in an order that the seed decides"
    )
    parser.add_argument("--out", type=str, default="predictions.csv", help="the CSV to write")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where")
    for part, taken in TAKEN.items():
        parser.add_class_arguments(part, skip={one.name for one in fields(part)} - taken)
    if name in STREAMING:
        add_method(parser, METHODS[name])
    add_json(parser)
    return parser


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Where the stream is stopped, say what there is of it."""
    try:
        with Signals().listening():
            yield
    except Stopped as stopped:
        raise Stopped(stopped.number, f"{out} keeps what was answered by then") from None


@dataclass
class Known:
    """What is known of a stream's labels, by row, and what the network that stays said of these."""

    labels: dict[int, int]
    net: Network
    task: Task
    fabric: Fabric
    unadapted: dict[int, float] = field(default_factory=dict)

    def asking(self, batches: Iterable[Unlabeled]) -> Iterator[Unlabeled]:
        """Pass batches on; where labels are known, ask the network that does not adapt first."""
        for batch in batches:
            rows = batch.index.tolist()
            if any(row in self.labels for row in rows):
                said = answers_of(self.net, self.task, logits_of(self.net, batch, self.fabric))
                self.unadapted |= zip(rows, said, strict=True)
            yield batch

    def scores(self, adapted: Mapping[int, float]) -> dict[str, dict[str, Any]]:
        """Score what was said of images whose label is known: of all, and of the last ones."""
        known = [row for row in sorted(adapted) if row in self.labels]
        late = known[len(known) - math.ceil(LATE * len(known)) :]
        told = {"adapted": adapted, "unadapted": self.unadapted}
        return {
            name: {"all": self._score(said, known), "last": self._score(said, late)}
            for name, said in told.items()
            if known
        }

    def _score(self, said: Mapping[int, float], rows: Sequence[int]) -> dict[str, float]:
        score = accuracy(sum(said[row] == self.labels[row] for row in rows), len(rows))
        return {score.name: score.value, "low": score.low, "high": score.high, "count": len(rows)}


def _show(terminal: Terminal, scores: dict[str, dict[str, Any]]) -> None:
    rows = [
        [name, *(f"{s['accuracy']:.1f} ({s['low']:.0f}-{s['high']:.0f})" for s in parts.values())]
        for name, parts in scores.items()
    ]
    if rows:
        count = scores["adapted"]["last"]["count"]
        columns = ["network", "accuracy", f"of the last {count}"]
        terminal.table("accuracy in percent (95% interval)", columns, rows)
