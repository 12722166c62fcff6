"""Exported networks beside the networks: ``python -m benchmarks.exports``.

Ten networks of different families with random weights and statistics of batch norms that are not
their first are written as ONNX and TorchScript, held against themselves, and timed on one thread:
milliseconds of one image of 96 pixels, the median of runs in turn. Folded are the batch norms of
the files; eager is the network itself in eval mode.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from adaptune.networks.export import DESCRIPTION, FILES, ExportFormat, export_network
from adaptune.networks.network import Network
from adaptune.networks.served import Served
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from benchmarks.layout import Results, markdown
from benchmarks.run import ROOT

NETWORKS = (
    "tf_efficientnet_lite0",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "resnet18",
    "resnet50",
    "regnety_008",
    "densenet121",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
)
SIZE, CLASSES = 96, 10
WARM, RUNS = 5, 30
TIMED: tuple[ExportFormat, ...] = ("onnx", "torchscript")


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    rows = []
    for name in NETWORKS:
        rows.append(measured(name))
        print(rows[-1], flush=True)
    found = {"about": __doc__, "rows": rows, "machine": describe_machine()}
    write_text(ROOT / "results" / "exports.json", json.dumps(to_json(found), indent=1) + "\n")


def measured(name: str) -> dict[str, float | str]:
    """Export one network in each format and time what came of it."""
    torch.manual_seed(0)
    net = Network.from_timm(name, [str(number) for number in range(CLASSES)], size=SIZE)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2.0)
    row: dict[str, float | str] = {"network": name}
    calls: dict[str, Callable[[Tensor], object]] = {"eager": Served(net)}
    with tempfile.TemporaryDirectory() as folder:
        for form in TIMED:
            place = Path(folder) / form
            row[f"{form}_difference"] = export_network(net, place, form)["difference"]
            assert json.loads((place / DESCRIPTION).read_text())["format"] == form
            calls[form] = _opened(place / FILES[form], form)
    row |= {f"{key}_ms": value for key, value in in_turn(calls).items()}
    return row


def _opened(file: Path, form: ExportFormat) -> Callable[[Tensor], object]:
    if form == "torchscript":
        return torch.jit.load(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"pixels": x.numpy()})


@torch.no_grad()
def in_turn(calls: dict[str, Callable[[Tensor], object]]) -> dict[str, float]:
    """Give the median milliseconds of each call, run in turn."""
    image = torch.zeros(1, 3, SIZE, SIZE)
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM + RUNS):
        for name, call in calls.items():
            began = time.perf_counter()
            call(image)
            spent[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(own[WARM:]) for name, own in spent.items()}


def exports(results: Results) -> str:
    """How far each exported network is from itself, and how fast it answers."""
    rows = []
    for one in results["rows"]:
        differences = max(one[f"{form}_difference"] for form in TIMED)
        times = [f"{one[f'{name}_ms']:.1f}" for name in ("eager", *TIMED)]
        rows.append([f"`{one['network']}`", f"{differences:.0e}", *times])
    head = ["network", "farthest logit", "eager, ms", "ONNX, ms", "TorchScript, ms"]
    return markdown(head, rows)


if __name__ == "__main__":
    main()
