"""`adaptune predict`: labels for image files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from adaptune.commands.options import Parser, add_json, fabric_on, print_json
from adaptune.commands.outputs import writable_file
from adaptune.commands.predictions import COLUMNS, PredictionLines, logits_of
from adaptune.data.domains import Loading
from adaptune.data.files import image_files
from adaptune.data.inputs import input_of
from adaptune.data.stream_reader import StreamReader
from adaptune.engine.batches import to_device
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.limits import MOST
from adaptune.tasks.classification import Classification


def run(words: Sequence[str]) -> None:
    """Write a line for each file: its label and how sure the network is, or why it has none."""
    parser = Parser(prog="adaptune predict", description="Label images with a finished run.")
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument("files", nargs="+", type=str, help="image files, or folders of them")
    parser.add_argument("--out", type=str, default="predictions.csv", help="the CSV to write")
    parser.add_argument(
        "--batch-size", type=int, default=64, between=(1, MOST), help="images at a time"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where")
    add_json(parser)
    given = parser.parse_args(list(words))
    files, notes = image_files(given.files)
    if not files:
        raise ValueError("; ".join([f"no image files in {', '.join(given.files)}", *notes]))
    place = writable_file(given.out, "predictions.csv")
    net = Network.load(best_network(Path(given.run)))
    fabric = fabric_on(given.device)
    to_device(net.eval(), fabric)
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
        terminal.say(f"{len(files)} files{said}: {given.out}")
    if given.json:
        print_json({"rows": [dict(zip(COLUMNS, line, strict=True)) for line in written]})
