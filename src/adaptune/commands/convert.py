"""`adaptune convert`: batch-norm conversion alone, for people with a training loop of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

import torch
from safetensors.torch import save_file

from adaptune.batchnorm.conversion import convert_batchnorm
from adaptune.commands.devices import fabric_on
from adaptune.commands.open_data import loading_of
from adaptune.commands.options import Parser, add_json, print_json, record_of, required
from adaptune.commands.outputs import writable_file
from adaptune.data.domains import Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.engine.batches import to_device
from adaptune.engine.method import hyperparameters
from adaptune.methods.supervised.daft import DAFT
from adaptune.report.terminal import Terminal
from adaptune.runs.setup import Setup


def run(words: Sequence[str]) -> None:
    """Convert the batch norms of a backbone to the statistics of a folder's training images."""
    parser = Parser(
        prog="adaptune convert",
        description="Convert a backbone's batch norms to your images, and save its weights. The "
        "file holds the body, under the names of the original architecture, without the head: "
        "for timm it opens in create_model(NAME, num_classes=0).",
    )
    parser.add_argument("data", type=str, help="a folder of class folders, or a manifest")
    parser.add_argument("--out", type=str, help="the safetensors file to write")
    parser.add_argument(
        "--pooling", choices=("exact", "batch"), default="exact", help="how batches are pooled"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        between=(0, math.inf),
        default=hyperparameters(DAFT)["tolerance"].default,
        help="end once every channel is known to within this; 0 uses all images",
    )
    left_out = {"augment", "devices", "precision", "select", "open_set", "unknown_above", "stride"}
    left_out |= {"text_length"}
    parser.add_class_arguments(Setup, skip=left_out)
    parser.add_class_arguments(Loading, skip={"seed", "track", "balanced"})
    parser.add_class_arguments(
        Shares,
        skip={f.name for f in fields(Shares)} - {"val_share"},
        fixed={"test_share": 0.0},
    )
    add_json(parser)
    given = parser.parse_args(list(words))
    required(parser, given, "out")
    out, setting = writable_file(given.out, "net.safetensors"), record_of(Setup, given)
    with Terminal() as terminal:
        data = open_domains(
            given.data,
            shares=Shares(val_share=given.val_share, test_share=0.0),
            loading=loading_of(given, seed=0, track=terminal.track),
        )
        torch.manual_seed(0)
        net = setting.network(data.classes)
        for note in net.notes:
            terminal.say(f"note: {note}")
        to_device(net, fabric_on(setting.device))
        data = data.with_input(net.preprocess)
        images = data.scan("train", shuffled=True)
        report = convert_batchnorm(
            net.body, images, pooling=given.pooling, tolerance=given.tolerance
        )
        terminal.say(str(report))
        state = {k: v.detach().cpu().contiguous() for k, v in net.body.state_dict().items()}
        save_file(state, out, metadata={"format": "pt"})
        terminal.say(f"weights {out}")
    if given.json:
        print_json(report.to_dict() | {"out": given.out, "problems": data.problems})
