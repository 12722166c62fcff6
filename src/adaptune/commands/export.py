"""`adaptune export`: a finished run as a file that other software runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptune.commands.options import Parser, add_json, print_json
from adaptune.commands.outputs import make_folder
from adaptune.commands.words import need_classes
from adaptune.networks.export import FORMATS, export_network
from adaptune.networks.network import Network, TextInput
from adaptune.report.terminal import Terminal
from adaptune.results.card import model_card
from adaptune.results.run import read_results
from adaptune.runs.folder import best_network
from adaptune.runtime.files import write_text
from adaptune.runtime.wording import speak_of_texts

FOR_PAIRS = (
    "adaptune fit --from RUN --words makes some, which can be exported; adaptune push gives the "
    "whole network to others"
)
"""What to do with a network that no file of one function says all of."""


def run(words: Sequence[str]) -> None:
    """Write the network, a description of how to call it, and a model card."""
    parser = Parser(
        prog="adaptune export",
        description="Write a run's best network as ONNX, TorchScript, torch.export or weights, "
        "normalisation of pixels included or the tokenizer of texts beside it, and hold what was "
        "written against the network.",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write")
    parser.add_argument("--out", type=str, default="exported", help="the folder to write into")
    add_json(parser)
    given = parser.parse_args(list(words))
    folder = Path(given.run)
    net = need_classes(Network.load(best_network(folder)), FOR_PAIRS)
    if isinstance(net.preprocess, TextInput):
        speak_of_texts()
    out = make_folder(given.out)
    with Terminal() as terminal:
        said = export_network(net, out, given.format)
        results = folder / "results.json"
        known = read_results(results) if results.is_file() else None
        write_text(out / "README.md", model_card(known, said))
        terminal.say(
            f"{out / said['file']}: logits are the network's to {said['difference']:.1e} of the "
            f"largest; how to call it: {out / 'export.json'}, model card: {out / 'README.md'}"
        )
    if given.json:
        print_json(said | {"out": out})
