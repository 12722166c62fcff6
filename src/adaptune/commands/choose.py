"""`adaptune choose`: which of several finished runs to take for images without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.open_data import open_source_data
from adaptune.commands.options import Parser, add_columns, add_json, print_json, required
from adaptune.commands.texts import examples_named, texts_for
from adaptune.data.domains import Loading
from adaptune.data.inputs import input_of
from adaptune.data.listing import Example
from adaptune.data.stream_reader import StreamReader
from adaptune.engine.evaluate import sample_outputs
from adaptune.networks.inputs import refuse_tokens
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.limits import MOST
from adaptune.selection import SCORES, defined, highest
from adaptune.selection.bag import BAG_SCORES, Bag, bag_scores
from adaptune.selection.scoring import LabelFreeScorer, without_labels
from adaptune.types import Outputs

SHOWN = ("id-validation", "confidence-calibrated", "doc-calibrated", "atc-calibrated")
"""Scores of one network that are accuracies, or estimates of them, in percent."""

NAMES = [*(name for name in SCORES if name != "distortion"), *BAG_SCORES]
"""What a run may be chosen by; what it began with, which distortion needs, is not opened."""


def run(words: Sequence[str]) -> None:
    """Estimate the accuracy of each run, and say which to take."""
    parser = Parser(
        prog="adaptune choose",
        description="Say which of several finished runs to take for images without labels.",
    )
    parser.add_argument(
        "runs", nargs="+", type=str, help="folders of runs of the same classes, or saved networks"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        type=str,
        default=[],
        metavar="DIR",
        help="image files, or folders of them, or tables of texts, from where the run must work; "
        "no label is looked at",
    )
    parser.add_argument("--by", choices=NAMES, default="id-validation", help="the score to go by")
    parser.add_argument(
        "--batch-size", type=int, default=256, between=(1, MOST), help="images at a time"
    )
    add_device(parser)
    add_columns(parser)
    add_json(parser)
    given = parser.parse_args(list(words))
    required(parser, given, "images")
    folders = list(dict.fromkeys(given.runs))
    first_net = Network.load(best_network(Path(folders[0])))
    refuse_tokens(first_net.preprocess, "estimates are of one class an image")
    examples, notes = examples_named(given.images, texts_for(first_net, given, Path(folders[0])))
    fabric = fabric_on(given.device)
    shown = dict.fromkeys((*SHOWN, *((given.by,) if given.by in SCORES else ())))
    judged: dict[str, Judged] = {}
    with Terminal() as terminal:
        loading = Loading(batch_size=given.batch_size, track=terminal.track)
        for folder in folders:
            net = Network.load(best_network(Path(folder)))
            judged[folder] = judge(Path(folder), net, examples, list(shown), loading, fabric)
            refuse_others(judged, folder)
        first = judged[folders[0]]
        for row, reason in first.problems.items():
            notes.append(f"{examples[row].path} is left out: {reason}")
        if not len(first.val.y):
            notes.append(f"{folders[0]} finds no validation images: what needs them has no value")
        for note in notes:
            terminal.say(f"note: {note}")
        scores = with_bag(judged)
        columns = list(next(iter(scores.values())))
        rows = [[folder, *map(number, own.values())] for folder, own in scores.items()]
        title = f"{len(first.answers)} images: accuracies on ID validation, and estimates here"
        terminal.table(title, ["run", *columns], rows)
        chosen = highest([own[given.by] for own in scores.values()] if given.by in columns else [])
        if chosen is None:
            raise ValueError(
                f"{given.by} has no value for any of these runs: choose by another --by, such as "
                f"{', '.join(sorted(known_names(scores))) or 'none that there is'}"
            )
        terminal.say(f"take {folders[chosen]}, which has the highest {given.by}")
    if given.json:
        told = {"images": len(first.answers), "runs": scores, "by": given.by}
        print_json(told | {"take": folders[chosen]})


@dataclass(frozen=True)
class Judged:
    """What was found of one run: its scores, its answers, what it was validated on."""

    classes: tuple[str, ...]
    scores: dict[str, float]
    answers: Tensor
    val: Outputs
    problems: dict[int, str]


def judge(
    folder: Path,
    net: Network,
    examples: Sequence[Example],
    names: Sequence[str],
    loading: Loading,
    fabric: Fabric,
) -> Judged:
    """Score one network on files without labels.

    Raises:
        ValueError: If none of them can be read.
    """
    reader = StreamReader(examples, input_of(net.preprocess), loading)
    rows = without_labels(reader.batches(f"reading for {folder.name}"))
    outputs = sample_outputs(net, rows, fabric=fabric)
    if not len(outputs.y):
        reason = next(iter(reader.problems.values()))
        raise ValueError(f"none of {len(examples)} image files could be read, the first: {reason}")
    scorer = LabelFreeScorer(net, open_source_data(folder, net, loading), fabric)
    evidence = scorer.evidence(outputs)
    scores = {name: defined(SCORES[name], evidence) for name in names}
    answers = outputs.logits.argmax(1)
    return Judged(net.classes, scores, answers, scorer.val, reader.problems)


def refuse_others(judged: dict[str, Judged], folder: str) -> None:
    """Refuse a run of other classes than the first.

    Raises:
        ValueError: If that is so.
    """
    first = next(iter(judged))
    if judged[folder].classes != judged[first].classes:
        raise ValueError(
            f"{first} tells {', '.join(judged[first].classes)} apart and {folder} "
            f"{', '.join(judged[folder].classes)}: choose among runs of the same classes"
        )


def with_bag(judged: dict[str, Judged]) -> dict[str, dict[str, float]]:
    """Give each run's scores, those of how it agrees with the others among them.

    A line of agreements is drawn where all were validated on the same images.
    """
    own = list(judged.values())
    first = own[0].val
    same = all(torch.equal(one.val.index, first.index) for one in own)
    same = same and all(torch.equal(one.val.y, first.y) for one in own)
    val = [one.val.logits.argmax(1) if same else one.answers[:0] for one in own]
    target = torch.stack([one.answers for one in own])
    bag = Bag(target, torch.stack(val), first.y if same else first.y[:0])
    more = bag_scores(bag) if len(own) > 1 else [{}]
    return {
        folder: {**one.scores, **agreeing}
        for (folder, one), agreeing in zip(judged.items(), more, strict=True)
    }


def known_names(scores: dict[str, dict[str, float]]) -> set[str]:
    """Name the scores that have a value for some run.

    >>> known_names({"a": {"atc": math.nan, "mano": 0.5}})
    {'mano'}
    """
    return {name for own in scores.values() for name in own if not math.isnan(own[name])}


def number(value: float) -> str:
    """Write a score; nothing where it has no value.

    >>> number(51.26), number(math.nan)
    ('51.3', '')
    """
    return "" if math.isnan(value) else f"{value:.4g}" if abs(value) < 1 else f"{value:.1f}"
