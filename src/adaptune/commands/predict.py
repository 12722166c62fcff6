"""`adaptune predict`: labels for image files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from lightning_fabric import Fabric

from adaptune.commands.masks import MaskMaker, places_of, save_mask
from adaptune.commands.options import Parser, add_json, fabric_on, print_json
from adaptune.commands.outputs import make_folder, writable_file
from adaptune.commands.predictions import COLUMNS, PredictionLines, logits_of
from adaptune.data.domains import Loading
from adaptune.data.files import image_files
from adaptune.data.inputs import input_of
from adaptune.data.inputs.pixels import UnreadableError
from adaptune.data.names import printable
from adaptune.data.stream_reader import StreamReader
from adaptune.engine.batches import to_device
from adaptune.networks.network import Network, WholeImage
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runs.setup import MOST_PIXELS
from adaptune.runtime.limits import MOST
from adaptune.tasks.classification import Classification


def run(words: Sequence[str]) -> None:
    """Write a line for each file: its label and how sure the network is, or why it has none.

    Of a network of places write a mask for each file instead.
    """
    parser = Parser(prog="adaptune predict", description="Label images with a finished run.")
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument("files", nargs="+", type=str, help="image files, or folders of them")
    parser.add_argument(
        "--out",
        type=str,
        help="the CSV to write, predictions.csv, or of masks the folder, predictions",
    )
    parser.add_argument(
        "--batch-size", type=int, default=64, between=(1, MOST), help="images at a time"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where")
    parser.add_argument(
        "--tile",
        type=int,
        default=0,
        between=(0, MOST_PIXELS),
        help="of masks: the side of what is seen at a time of a larger image, in its own pixels; "
        "0 scales whole images to the network's size",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        default=64,
        between=(0, MOST_PIXELS),
        help="of masks: by how many pixels tiles overlap at the least",
    )
    add_json(parser)
    given = parser.parse_args(list(words))
    files, notes = image_files(given.files)
    if not files:
        raise ValueError("; ".join([f"no image files in {', '.join(given.files)}", *notes]))
    net = Network.load(best_network(Path(given.run)))
    fabric = fabric_on(given.device)
    to_device(net.eval(), fabric)
    if isinstance(net.preprocess, WholeImage):
        _write_masks(given, files, notes, net, fabric)
    else:
        _write_lines(given, files, notes, net, fabric)


def _write_masks(
    given: Namespace, files: Sequence[Path], notes: Sequence[str], net: Network, fabric: Fabric
) -> None:
    """Write the mask of each file, of its own size, whose indices are the numbers of classes."""
    maker = MaskMaker(net, fabric, tile=given.tile, overlap=given.overlap)
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
                save_mask(maker.read(file), place)
            except UnreadableError as error:
                problem = str(error)
                terminal.say(f"left out {printable(file)}: {problem}")
            written.append({"path": file, "mask": "" if problem else place, "problem": problem})
        named = ", ".join(f"{number} {name}" for number, name in enumerate(net.classes))
        terminal.say(f"{len(files)} files: {out}; indices are {named}")
    if given.json:
        print_json({"rows": written, "classes": net.classes})


def _write_lines(
    given: Namespace, files: Sequence[Path], notes: Sequence[str], net: Network, fabric: Fabric
) -> None:
    named = "predictions.csv" if given.out is None else given.out
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
        reader = StreamReader(files, input_of(net.preprocess), loading)
        lines = PredictionLines(files, net, Classification(len(net.classes)), reader.problems)
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
