"""`adaptune stream`: images labelled as they come, by a network that adapts to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from pathlib import Path

from jsonargparse import Namespace
from lightning_fabric import Fabric

from adaptune.commands.choices import STREAMING
from adaptune.commands.course import collapse_told, course_of, show_visits
from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.masks import places_of
from adaptune.commands.open_data import loading_of, mask_labels
from adaptune.commands.options import (
    Parser,
    add_columns,
    add_json,
    add_masks,
    add_method,
    find_choice,
    find_method_name,
    print_json,
    record_of,
)
from adaptune.commands.outputs import make_folder, writable_file
from adaptune.commands.predictions import PredictionLines
from adaptune.commands.stream_domains import (
    domains_named,
    examples_of,
    in_turn,
    listed_domains,
    masked_images,
)
from adaptune.commands.streamed import Answers, LineAnswers, MaskAnswers, Told
from adaptune.commands.texts import texts_for
from adaptune.data.domains import Loading
from adaptune.data.inputs import input_of
from adaptune.data.listing import Example
from adaptune.data.names import printable
from adaptune.data.stream_reader import StreamReader, known_labels
from adaptune.engine.batches import to_device
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.engine.visits import Visit, batches_of
from adaptune.methods import METHODS
from adaptune.metrics.window import AnswerWindow
from adaptune.networks.inputs import refuse_tokens
from adaptune.networks.network import Network, WholeImage
from adaptune.report.terminal import NAMED, Terminal
from adaptune.runs.folder import best_network
from adaptune.runs.needs import refuse_pixels
from adaptune.runtime.signals import Signals, Stopped
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.tasks.task import Task

TAKEN = {
    Plan: {"optimizer", "momentum", "weight_decay", "clip", "layout", "on_nonfinite", "seed"},
    Loading: {"batch_size", "workers", "cache"},
}
"""What a stream takes of records that other commands take more of."""

MOST_CYCLES = 1000
"""The most often that domains come."""

MOST_WINDOW = 100_000
"""The most answers that are watched at a time."""


def run(words: Sequence[str]) -> None:
    """Write each image's line as soon as its batch is answered; score where labels are known."""
    name = find_method_name(words, default="alpha-bn")
    optimizer = find_choice(words, "optimizer", Plan.optimizer)
    given = _parser(name, optimizer).parse_args(list(words))
    net, fabric = Network.load(best_network(Path(given.run))), fabric_on(given.device)
    refuse_tokens(net.preprocess, "a stream is answered by one class or mask an image")
    dense = isinstance(net.preprocess, WholeImage)
    texts = texts_for(net, given, Path(given.run))
    if texts:
        refuse_pixels(METHODS[name])
    plan = record_of(Plan, given)
    listed, notes = listed_domains(given, masked_images if dense else examples_of(texts))
    visits, images = in_turn(listed, given, plan.seed)
    files = [one.path for one in images]
    options = {key: given[key] for key in hyperparameters(METHODS[name])}
    with Terminal() as terminal:
        for note in notes:
            terminal.say(f"note: {note}")
        loading = loading_of(given, seed=plan.seed, track=terminal.track)
        parts = batches_of(visits, loading.batch_size)
        reader = StreamReader(images, input_of(net.preprocess), loading, parts)
        still = deepcopy(net).eval()
        to_device(still, fabric)
        task: Task = (Segmentation if dense else Classification)(len(net.classes))
        answers = _answers(given, images, visits, still, task, fabric, reader.problems)
        window = AnswerWindow(len(net.classes), min(given.window, max(1, len(files) // 4)))
        method, out = METHODS[name](net, task, **options), answers.out
        with _kept(out), answers.opened():
            batches = answers.asking(reader.batches("answering"))
            for one in stream(method, batches, plan, fabric=fabric, episodic=given.episodic):
                answers.take(one.logits, one.index)
                was = window.collapse
                window.take(one.logits, answers.beside)
                if window.collapse and not was:
                    terminal.say(collapse_told(window, net.classes))
        problems = {files[row]: reason for row, reason in reader.problems.items()}
        for path, reason in list(problems.items())[:NAMED]:
            terminal.say(f"left out {printable(path)}: {reason}")
        said = f", {len(problems)} of them could not be read" if problems else ""
        terminal.say(f"{len(files)} images{said}: {out}")
        scores, course = answers.scores(), course_of(visits, answers, window, net.classes)
        _show(terminal, scores)
        show_visits(terminal, course)
        terminal.say(collapse_told(window, net.classes))
    if given.json:
        told = {"network": given.run, "method": name, "images": len(files), "out": str(out)}
        left_out = {str(path): reason for path, reason in problems.items()}
        print_json(told | {"scores": scores, **course, "problems": left_out})


def _parser(name: str, optimizer: str) -> Parser:
    parser = Parser(
        prog="adaptune stream",
        description="Label folders of images, or tables of texts, one after the other and each in "
        "its order, batch by batch, with a network that adapts to them as it goes and sees no "
        "label. Names of folders that are classes, and masks, are used to score it, and for "
        "nothing else. "
        f"(Options shown: those of {name}.)",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument(
        "images",
        nargs="+",
        type=str,
        metavar="[NAME=]DIR",
        help="folders of images, flat or by class, or tables of texts, each a domain",
    )
    parser.add_argument(
        "--cycles",
        type=int,
        default=1,
        between=(1, MOST_CYCLES),
        help="how often all domains come; scores by cycle say what was forgotten",
    )
    parser.add_argument(
        "--window",
        type=int,
        default=200,
        between=(1, MOST_WINDOW),
        help="how many of the last answers are watched for a collapse to few classes, at most a "
        "quarter of the stream",
    )
    parser.add_argument("--method", choices=STREAMING, default="alpha-bn", help="how to adapt")
    parser.add_argument(
        "--episodic",
        action="store_true",
        help="begin anew with each batch, as if it were the first",
    )
    parser.add_argument(
        "--shuffle", action="store_true", help="take the images in an order that the seed decides"
    )
    parser.add_argument(
        "--out",
        type=str,
        help="the CSV to write, predictions.csv, or of masks the folder, predictions",
    )
    add_device(parser)
    for part, taken in TAKEN.items():
        parser.add_class_arguments(part, skip={one.name for one in fields(part)} - taken)
    if name in STREAMING:
        add_method(parser, METHODS[name], optimizer)
    add_masks(parser)
    add_columns(parser)
    add_json(parser)
    return parser


def _answers(
    given: Namespace,
    images: Sequence[Example],
    visits: Sequence[Visit],
    net: Network,
    task: Task,
    fabric: Fabric,
    problems: dict[int, str],
) -> Answers:
    """Say what is to come of the answers: masks in a folder, or lines of a file."""
    files, named = [one.path for one in images], domains_named(given.images)
    if task.places:
        out = make_folder("predictions" if given.out is None else given.out)
        meaning = mask_labels(Path(given.run), net, given.label_table)
        places: list[Path] = []
        for one in visits:
            below = out / one.domain if len(named) > 1 else out
            below = below / str(one.cycle) if given.cycles > 1 else below
            own = files[one.rows.start : one.rows.stop]
            places += places_of(own, [named[one.domain]], below)
        return MaskAnswers(images, places, meaning, net, fabric, problems, out, visits)
    out = writable_file("predictions.csv" if given.out is None else given.out, "predictions.csv")
    labels = {
        one.rows[row]: label
        for one in visits
        for row, label in known_labels(
            images[one.rows.start : one.rows.stop], Path(named[one.domain]), net.classes
        ).items()
    }
    lines = PredictionLines(files, net, task, problems)
    return LineAnswers(labels, net, task, fabric, lines, out)


@contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Where the stream is stopped, say what there is of it."""
    try:
        with Signals().listening():
            yield
    except Stopped as stopped:
        raise Stopped(stopped.number, f"{out} keeps what was answered by then") from None


def _show(terminal: Terminal, scores: Told) -> None:
    """Show scores; of few images with masks none may be among the last."""
    if not scores:
        return
    measure = next(iter(scores["adapted"]["all"]))
    rows = [
        [name, *(f"{s[measure]:.1f} ({s['low']:.0f}-{s['high']:.0f})" for s in parts.values())]
        for name, parts in scores.items()
    ]
    counts = [f"of the last {parts['count']}" for parts in scores["adapted"].values()][1:]
    terminal.table(f"{measure} in percent (95% interval)", ["network", measure, *counts], rows)
