"""`adaptune evaluate`: a finished run on its own test sets, or on other data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from jsonargparse import Namespace

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.masks import add_tiles
from adaptune.commands.open_data import (
    add_label_distances,
    mask_folders,
    metric_task,
    open_run_data,
    score_of,
    task_of,
    tiles_of,
)
from adaptune.commands.options import (
    Parser,
    add_columns,
    add_json,
    add_masks,
    add_open_set,
    print_json,
)
from adaptune.commands.texts import lister_for, plain_lister
from adaptune.commands.words import add_named_classes, classes_there, named_classes, opened
from adaptune.data.domains import Loading
from adaptune.data.words import named_folders
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.metrics.class_scores import ClassScore
from adaptune.metrics.label_distance import describe_rules
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.ops.rejection import UNKNOWN_ABOVE, calibrate_threshold, describe_threshold
from adaptune.report.terminal import Terminal
from adaptune.results.score import Measure, Scores
from adaptune.runtime.limits import MOST, check_range

AT_ONCE, AT_ONCE_OF_MASKS, AT_ONCE_OF_TAGS = 256, 8, 64
"""Images at a time; features of every place take a few hundred times the memory of an image's."""


def run(words: Sequence[str]) -> None:
    """Score a network on test sets."""
    parser = Parser(prog="adaptune evaluate", description="Measure a finished run on data.")
    parser.add_argument(
        "run", type=str, help="a run's folder, one with a saved network, or clip:FOLDER"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        type=str,
        default=[],
        metavar="NAME=DIR",
        help="what to test on; by default the run's own test sets",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        between=(1, MOST),
        help=f"images at a time; by default {AT_ONCE}, or {AT_ONCE_OF_MASKS} where there are masks",
    )
    add_device(parser)
    add_open_set(parser)
    parser.add_argument(
        "--unknown-above",
        type=float,
        help="test on an open set, with this as the uncertainty above which a prediction means "
        "unknown; by default it is the network's own, or else the least that keeps 95%% of the "
        "run's ID validation images known",
    )
    add_masks(parser)
    add_tiles(parser)
    add_label_distances(parser)
    parser.add_argument(
        "--score",
        choices=[*get_args(ClassScore)],
        help="what counts of classes; by default what counted in the run",
    )
    add_named_classes(parser)
    add_columns(parser)
    add_json(parser)
    given = parser.parse_args(list(words))
    check_range("--unknown-above", given.unknown_above, 0, 1, above=True, below=True)
    folder = Path(given.run)
    net = opened(given.run)
    named, named_now = named_folders(given.data), bool(given.words or given.classes)
    renamed = named_now and isinstance(net.head, Joint)
    if named_now:
        own = classes_there(named, plain_lister(net, given, folder)) or net.classes
        net = named_classes(net, given, own)
    net.threshold, calibrates = _threshold(given, net)
    fabric = fabric_on(given.device)
    with Terminal() as terminal:
        tiles = tiles_of(folder, given.tile, given.overlap)
        metric = metric_task(given.label_distances, net) if given.label_distances else None
        task = metric or task_of(net, tiles, given.score or score_of(folder))
        usual = {"mask": AT_ONCE_OF_MASKS, "tags": AT_ONCE_OF_TAGS}.get(task.labels, AT_ONCE)
        loading = Loading(batch_size=given.batch_size or usual, track=terminal.track)
        masks, table = mask_folders(given.labels), given.label_table
        answers = metric.answers if metric else ()
        data = open_run_data(
            folder,
            net,
            loading,
            named,
            texts=lister_for(net, given, folder),
            masks=masks,
            table=table,
            tiles=tiles,
            answers=answers,
            own=not renamed,
        )
        for note in data.notes:
            terminal.say(f"note: {note}")
        if calibrates and len(data.sets.get("val", ())):
            val = sample_outputs(net, data.scan("val"), fabric=fabric)
            net.threshold = calibrate_threshold(val.logits)
            terminal.say(f"note: {describe_threshold(net.threshold, len(val.y))}")
        if task.settles and len(data.sets.get("val", ())):
            task = task.settled(evaluate(net, data.scan("val"), task, fabric=fabric).scores)
        scores: dict[str, Scores] = {}
        for name, rows in data.tests().items():
            scores[name] = evaluate(net, rows, task, fabric=fabric).scores
        for path, reason in data.problems.items():
            terminal.say(f"left out {path}: {reason}")
        for name, one in scores.items() if metric else ():
            terminal.say(f"note: {name}: {describe_rules(one)}")
        terminal.scores(folder.name, scores)
    if given.json:
        told = {"network": str(folder), "scores": scores, "problems": data.problems}
        print_json(told | {"score": next((s.main.measure for s in scores.values()), Measure())})


def _threshold(given: Namespace, net: Network) -> tuple[float, bool]:
    """Say what the network's threshold is to be, and whether ID validation may tell a better one.

    It is one that rejects where the set is to be open.
    """
    if given.unknown_above is not None:
        return given.unknown_above, False
    opens = given.open_set and net.threshold == 1
    return UNKNOWN_ABOVE if opens else net.threshold, opens
