"""`adaptune stream`: images labelled as they come, by a network that adapts to them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
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
from adaptune.data.domains import Loading
from adaptune.data.file_rows import FileRows
from adaptune.data.files import image_files
from adaptune.data.inputs import input_of
from adaptune.data.labels import NoLabels
from adaptune.data.listing import Example
from adaptune.data.loading import group_keys, load_groups, shuffled_keys
from adaptune.data.names import class_finder, printable
from adaptune.engine.batches import layout_of, rows_to_device, to_device
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import Prediction, stream
from adaptune.methods import METHODS
from adaptune.metrics.classification import wilson
from adaptune.networks.network import Network
from adaptune.report.terminal import NAMED, Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.signals import Signals, Stopped
from adaptune.tasks.classification import Classification
from adaptune.types import UNKNOWN, Unlabeled

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
    options = {key: given[key] for key in hyperparameters(METHODS[name])}
    with Terminal() as terminal:
        for note in notes:
            terminal.say(f"note: {note}")
        ways = loading_of(given, seed=plan.seed, track=terminal.track)
        coming = StreamReader(files, folder, deepcopy(net).eval(), fabric, ways)
        method = METHODS[name](net, Classification(len(net.classes)), **options)
        with _kept(out), out.open("w", 1, "utf-8", "surrogateescape", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["path", "predicted", "confidence", "problem"])
            answers = stream(method, coming.rows(), plan, fabric=fabric, episodic=given.episodic)
            for answer in answers:
                writer.writerows(coming.lines(answer))
            writer.writerows(coming.rest())
        for row in list(coming.problems)[:NAMED]:
            terminal.say(f"left out {printable(files[row])}: {coming.problems[row]}")
        failed = len(coming.problems)
        said = f", {failed} of them could not be read" if failed else ""
        terminal.say(f"{len(files)} images{said}: {out}")
        scores = coming.scores()
        _show(terminal, scores)
    if given.json:
        problems = {str(files[row]): reason for row, reason in coming.problems.items()}
        told = {"network": given.run, "method": name, "images": len(files), "out": given.out}
        print_json(told | {"scores": scores, "problems": problems})


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
class StreamReader:
    """Images on their way, and what is known of those that came.

    Rows of ``files``: ``problems`` holds why one could not be read, ``alone`` what the network says
    of one without adapting (only where labels are known), ``adapted`` what the method said of it;
    ``written`` are those that have their line.
    """

    files: Sequence[Path]
    folder: Path
    net: Network
    fabric: Fabric
    loading: Loading
    problems: dict[int, str] = field(default_factory=dict)
    alone: dict[int, int] = field(default_factory=dict)
    adapted: dict[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        find = class_finder(self.net.classes)
        self.labels: dict[int, int] = {}
        for at, path in enumerate(self.files):
            names = path.relative_to(self.folder).parent.parts
            found = [known for known in map(find, names) if known]
            if found:
                self.labels[at] = self.net.classes.index(found[0])
        to_device(self.net, self.fabric)

    def rows(self) -> Iterator[Unlabeled]:
        """Read batch after batch; ask the network that does not adapt where labels are known."""
        examples = [Example(path, "") for path in self.files]  # no label, so that none can leak
        reader = input_of(self.net.preprocess)
        images = FileRows(examples, reader, NoLabels(), self.loading.cache)
        groups = group_keys([(row, 0) for row in range(len(examples))], self.loading.batch_size)
        read = load_groups(images, groups, self.loading, "answering")
        for group, (stack, broken) in zip(groups, read, strict=True):
            index = stack[2] if stack else torch.empty(0, dtype=torch.int64)
            lost = [row for row, _ in group if row not in set(index.tolist())]
            self.problems |= {row: one.reason for row, one in zip(lost, broken, strict=True)}
            if stack:
                batch = Unlabeled(stack[0], torch.zeros_like(index), index)
                self._ask(batch)
                yield batch

    @torch.no_grad()
    def _ask(self, batch: Unlabeled) -> None:
        rows = batch.index.tolist()
        if any(row in self.labels for row in rows):
            x = rows_to_device(batch, self.fabric, layout_of(self.net)).x
            with self.fabric.autocast():
                logits = self.net(x).float()
            said = self.net.with_unknown(logits).argmax(1)
            self.alone |= zip(rows, said.tolist(), strict=True)

    def lines(self, answer: Prediction) -> Iterator[list[str]]:
        """Give the lines of a batch, and of files before its end that could not be read."""
        logits = answer.logits.float()
        sure, guess = logits.softmax(1).amax(1), self.net.with_unknown(logits).argmax(1)
        said = {
            row: [(*self.net.classes, UNKNOWN)[label], f"{confidence:.4f}", ""]
            for row, label, confidence in zip(
                answer.index.tolist(), guess.tolist(), sure.tolist(), strict=True
            )
        }
        self.adapted |= zip(said, guess.tolist(), strict=True)
        yield from self._in_order(said)

    def rest(self) -> Iterator[list[str]]:
        """Give the lines of files that could not be read and have none yet."""
        yield from self._in_order({})

    def _in_order(self, said: dict[int, list[str]]) -> Iterator[list[str]]:
        told = {row: ["", "", self.problems[row]] for row in self.problems.keys() - self.written}
        for row, words in sorted((said | told).items()):
            yield [str(self.files[row]), *words]
        self.written |= said.keys() | told.keys()

    def scores(self) -> dict[str, dict[str, Any]]:
        """Score what was said of images whose label is known: of all, and of the last ones."""
        known = [row for row in sorted(self.adapted) if row in self.labels]
        late = known[len(known) - math.ceil(LATE * len(known)) :]
        told = {"adapted": self.adapted, "unadapted": self.alone}
        return {
            name: {"all": self._score(said, known), "last": self._score(said, late)}
            for name, said in told.items()
            if known
        }

    def _score(self, said: dict[int, int], rows: Sequence[int]) -> dict[str, float]:
        right = sum(said[row] == self.labels[row] for row in rows)
        low, high = wilson(right, len(rows))
        accuracy = 100 * right / len(rows)
        return {"accuracy": accuracy, "low": 100 * low, "high": 100 * high, "count": len(rows)}


def _show(terminal: Terminal, scores: dict[str, dict[str, Any]]) -> None:
    rows = [
        [name, *(f"{s['accuracy']:.1f} ({s['low']:.0f}-{s['high']:.0f})" for s in parts.values())]
        for name, parts in scores.items()
    ]
    if rows:
        count = scores["adapted"]["last"]["count"]
        columns = ["network", "accuracy", f"of the last {count}"]
        terminal.table("accuracy in percent (95% interval)", columns, rows)
