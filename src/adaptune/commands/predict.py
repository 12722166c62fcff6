"""`adaptune predict`: labels for image files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from lightning_fabric import Fabric

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.masks import add_tiles, places_of, save_mask, save_probabilities
from adaptune.commands.open_data import add_label_distances, metric_task, tiles_of
from adaptune.commands.options import (
    Parser,
    add_columns,
    add_json,
    print_json,
)
from adaptune.commands.outputs import make_folder, writable_file
from adaptune.commands.predictions import COLUMNS, PredictionLines
from adaptune.commands.tags import write_tags
from adaptune.commands.texts import examples_named, texts_for
from adaptune.commands.words import add_named_classes, named_classes, need_classes, opened
from adaptune.data.domains import Loading
from adaptune.data.files import refuse_remote
from adaptune.data.inputs import input_of
from adaptune.data.inputs.image import read_image
from adaptune.data.listing import Example
from adaptune.data.names import printable
from adaptune.data.sample import UnreadableError
from adaptune.data.stream_reader import StreamReader
from adaptune.engine.batches import to_device
from adaptune.engine.evaluate import logits_of
from adaptune.networks.network import Network, TokenInput, WholeImage
from adaptune.report.terminal import Terminal
from adaptune.runs.masks import MaskMaker
from adaptune.runtime.limits import MOST
from adaptune.tasks.classification import Classification
from adaptune.tasks.task import Task


def run(words: Sequence[str]) -> None:
    """Write a line for each file: its label and how sure the network is, or why it has none.

    Of a network of places write a mask for each file instead, or a tag for each word.
    """
    parser = Parser(
        prog="adaptune predict", description="Label images, or texts, with a finished run."
    )
    parser.add_argument(
        "run", type=str, help="a run's folder, one with a saved network, or clip:FOLDER"
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=str,
        help="image files, or folders of them; of texts tables or .txt files",
    )
    parser.add_argument(
        "--out",
        type=str,
        help="the CSV to write, predictions.csv; of masks the folder, predictions; of tagged words "
        "a file of a word a line, predictions.conll, or JSON lines by its ending",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, between=(1, MOST), help="images at a time"
    )
    add_device(parser)
    add_tiles(parser)
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="of masks: write the classes' probabilities too, a NumPy file (classes, height, "
        "width) of float16 beside each mask",
    )
    add_label_distances(parser)
    add_named_classes(parser)
    add_columns(parser)
    add_json(parser)
    given = parser.parse_args(list(words))
    refuse_remote(given.files)
    net = opened(given.run)
    net = need_classes(named_classes(net, given, net.classes))
    examples, notes = examples_named(given.files, texts_for(net, given, Path(given.run)))
    metric = given.label_distances
    task = metric_task(metric, net) if metric else Classification(len(net.classes))
    fabric = fabric_on(given.device)
    to_device(net.eval(), fabric)
    if isinstance(net.preprocess, WholeImage):
        _write_masks(given, [one.path for one in examples], notes, net, fabric)
    elif isinstance(net.preprocess, TokenInput):
        write_tags(given, examples, notes, net, fabric)
    else:
        _write_lines(given, examples, notes, net, fabric, task)


def _write_masks(
    given: Namespace, files: Sequence[Path], notes: Sequence[str], net: Network, fabric: Fabric
) -> None:
    """Write the mask of each file, of its own size, whose indices are the numbers of classes."""
    maker = MaskMaker(net, fabric, tiles_of(Path(given.run), given.tile, given.overlap))
    out = make_folder("predictions" if given.out is None else given.out)
    places = places_of(files, given.files, out)
    written = []
    with Terminal() as terminal:
        for note in notes:
            terminal.say(f"note: {note}")
        pairs = list(zip(files, places, strict=True))
        for file, place in terminal.track(pairs, "predicting", len(pairs)):
            problem = ""
            try:
                image = read_image(file)
                if given.probabilities:
                    size = (len(net.classes), *image.shape[1:])
                    mask = save_probabilities(maker.outputs(image), size, place.with_suffix(".npy"))
                else:
                    mask = maker(image)
                save_mask(mask, place)
            except UnreadableError as error:
                problem = str(error)
                terminal.say(f"left out {printable(file)}: {problem}")
            written.append({"path": file, "mask": "" if problem else place, "problem": problem})
        named = ", ".join(f"{number} {name}" for number, name in enumerate(net.classes))
        terminal.say(f"{len(files)} files: {out}; indices are {named}")
    if given.json:
        print_json({"rows": written, "classes": net.classes})


def _write_lines(
    given: Namespace,
    examples: Sequence[Example],
    notes: Sequence[str],
    net: Network,
    fabric: Fabric,
    task: Task,
) -> None:
    named = "predictions.csv" if given.out is None else given.out
    files = [one.path for one in examples]
    place = writable_file(named, "predictions.csv")
    written: list[list[str]] = []
    with (
        Terminal() as terminal,
        # Names that are no UTF-8 keep their bytes.
        place.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out,
    ):
        for note in notes:
            terminal.say(f"note: {note}")
        loading = Loading(given.batch_size, track=terminal.track)
        reader = StreamReader(examples, input_of(net.preprocess), loading)
        lines = PredictionLines(files, net, task, reader.problems)
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for batch in reader.batches("predicting"):
            told = list(lines.answered(logits_of(net, batch, fabric), batch.index))
            writer.writerows(told)
            written += told
        told = list(lines.rest())
        writer.writerows(told)
        written += told
        failed = len(reader.problems)
        said = f", {failed} of them could not be read" if failed else ""
        terminal.say(f"{len(files)} files{said}: {place}")
    if given.json:
        print_json({"rows": [dict(zip(COLUMNS, line, strict=True)) for line in written]})
