"""Networks as others run them: ONNX, TorchScript, torch.export, or weights of plain layers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adaptune.networks.inputs import TextInput, WholeImage, save_look
from adaptune.networks.network import Network
from adaptune.networks.served import describe_input, dynamic_axes, made_input, served
from adaptune.runtime.files import write_text

ExportFormat = Literal["onnx", "torchscript", "torch-export", "safetensors"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

FILES: dict[ExportFormat, str] = {
    "onnx": "network.onnx",
    "torchscript": "network.ts",
    "torch-export": "network.pt2",
    "safetensors": "network.safetensors",
}
"""What the file of each format is called."""

DESCRIPTION = "export.json"
"""What says how to call the file, beside it."""

BATCHES = (1, 2, 5)
"""Rows at a time with which an exported file is held against the network."""

FARTHEST = 1e-4
"""How far logits of a file may lie from the network's, as a share of the largest."""

Call = Callable[[Tensor], Tensor]
Axes = dict[int, Any]


def export_network(net: Network, folder: Path, form: ExportFormat) -> dict[str, Any]:
    """Write a network into ``folder`` in one format, and say how to call it.

    Batches may be of any size, images are of the network's own, texts of any length up to its own.
    In ONNX and TorchScript batch norms are folded into the convolutions before them. What was
    written is opened again and held against the network on what was made up: see ``difference`` in
    what is given back and in ``export.json``, the largest distance of a logit as a share of the
    largest logit. The tokenizer of a network of texts lies beside.

    Raises:
        ValueError: If a package is missing, the network cannot be written so, or what was written
            answers otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net = net.cpu().eval()
    file, of_texts = folder / FILES[form], isinstance(net.preprocess, TextInput)
    if form == "torchscript" and of_texts:
        raise ValueError(
            "TorchScript would keep the length of one text: give --format onnx or torch-export"
        )
    own = served(net)
    if form == "safetensors":
        net.save(folder)
        call: Call = served(Network.load(folder))
    else:
        save_look(net.preprocess, folder)
        call = _WRITERS[form](own, made_input(net, 2), dynamic_axes(net), file)
    difference = max(_difference(own, call, made_input(net, count)) for count in BATCHES)
    if not difference <= FARTHEST:
        raise ValueError(
            f"{file} answers otherwise than the network does, by {difference:.1e} of the largest "
            f"logit where {FARTHEST:.0e} is expected: do not use it, and take another --format"
        )
    said = describe(net, form) | {"difference": difference}
    write_text(folder / DESCRIPTION, json.dumps(said, indent=2) + "\n")
    return said


def describe(net: Network, form: ExportFormat) -> dict[str, Any]:
    """Say how a file of this network is called: what goes in, what comes out, which classes."""
    whole = isinstance(net.preprocess, WholeImage)
    return {
        "format": form,
        "file": FILES[form],
        "input": describe_input(net, raw=form == "safetensors"),
        "output": {
            "name": "logits",
            "axes": ["batch", "class", "down", "right"] if whole else ["batch", "class"],
            "unknown": "the last column means none of the classes" if net.threshold < 1 else None,
        },
        "classes": list(net.classes),
    }


@torch.no_grad()
def _difference(one: Call, other: Call, x: Tensor) -> float:
    expected = one(x)
    return float((other(x) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _to_onnx(own: nn.Module, example: Tensor, axes: Axes, file: Path) -> Call:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError("--format onnx needs packages: pip install 'adaptune[onnx]'") from error
    name = "pixels" if example.is_floating_point() else "ids"
    with _quiet():
        program = torch.onnx.export(
            own,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[name],
            output_names=["logits"],
            dynamic_shapes=(axes,),
        )
        assert program is not None
        program.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _to_torchscript(own: nn.Module, example: Tensor, axes: Axes, file: Path) -> Call:
    del axes
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(own, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), str(file))
        return torch.jit.load(str(file))  # type: ignore[no-any-return, no-untyped-call]


def _to_torch_export(own: nn.Module, example: Tensor, axes: Axes, file: Path) -> Call:
    with _quiet():
        program = torch.export.export(own, (example,), dynamic_shapes=(axes,))
        torch.export.save(program, str(file))
        return torch.export.load(str(file)).module()


_WRITERS: dict[ExportFormat, Callable[[nn.Module, Tensor, Axes, Path], Call]] = {
    "onnx": _to_onnx,
    "torchscript": _to_torchscript,
    "torch-export": _to_torch_export,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what exporters say of themselves; what they write is held against the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
