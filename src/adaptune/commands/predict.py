"""`adaptune predict`: labels for image files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.commands.options import Parser, add_json, fabric_on, print_json
from adaptune.commands.outputs import writable_file
from adaptune.data.files import image_files
from adaptune.data.inputs.image import read_image, transform_for
from adaptune.engine.batches import layout_of
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.limits import MOST
from adaptune.types import UNKNOWN


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
    net.to(device=fabric.device).eval()
    lines: list[list[str]] = []
    with (
        Terminal() as terminal,
        # Names that are no UTF-8 keep their bytes.
        place.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out,
    ):
        for note in notes:
            terminal.say(f"note: {note}")
        writer = csv.writer(out)
        writer.writerow(["path", "predicted", "confidence", "problem"])
        groups = [files[i : i + given.batch_size] for i in range(0, len(files), given.batch_size)]
        for group in terminal.track(groups, "predicting", len(groups)):
            told = _predicted(net, group, fabric)
            writer.writerows(told)
            lines += told
        failed = sum(bool(line[3]) for line in lines)
        said = f", {failed} of them could not be read" if failed else ""
        terminal.say(f"{len(lines)} files{said}: {given.out}")
    if given.json:
        keys = ("path", "predicted", "confidence", "problem")
        print_json({"rows": [dict(zip(keys, line, strict=True)) for line in lines]})


@torch.no_grad()
def _predicted(net: Network, files: Sequence[Path], fabric: Fabric) -> list[list[str]]:
    look = transform_for(net.preprocess)
    inputs: dict[Path, Tensor] = {}
    problems: dict[Path, str] = {}
    for file in files:
        try:
            inputs[file] = look(read_image(file))
        except OSError as error:
            problems[file] = str(error)
    told = {file: ["", "", reason] for file, reason in problems.items()}
    if inputs:
        x = torch.stack(list(inputs.values())).to(fabric.device)
        x = x.contiguous(memory_format=layout_of(net))
        logits = net(x)
        confidence, guess = logits.softmax(1).amax(1), net.with_unknown(logits).argmax(1)
        for file, sure, label in zip(inputs, confidence.tolist(), guess.tolist(), strict=True):
            told[file] = [(*net.classes, UNKNOWN)[label], f"{sure:.4f}", ""]
    return [[str(file), *told[file]] for file in files]
