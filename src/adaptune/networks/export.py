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

from adaptune.networks.inputs import need_images
from adaptune.networks.network import Network, WholeImage
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
"""Images at a time with which an exported file is held against the network."""

FARTHEST = 1e-4
"""How far logits of a file may lie from the network's, as a share of the largest."""

Call = Callable[[Tensor], Tensor]


class Served(nn.Module):
    """A network in eval mode with its normalisation: bytes in, logits out.

    Pixels are RGB (N, 3, H, W) from 0 to 255, of any type; where predictions may be rejected, the
    last logit means none of the classes. Adapters and a standardised head are folded.

    >>> net = Network.from_module(nn.Linear(12, 2), head="", classes=["a", "b"])
    >>> served = Served(net)
    >>> (served.mean.shape, served.training)
    (torch.Size([1, 3, 1, 1]), False)
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.body, self.head = net.plain_body(), net.head.fold()
        look = need_images(net.preprocess, "networks that read pictures are exported")
        for name, values in (("mean", look.mean), ("deviation", look.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1))
        self.with_unknown = net.with_unknown
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Answer with logits (N, K, ...)."""
        x = (pixels.float() - self.mean) / self.deviation
        return self.with_unknown(self.head(self.body(x)))


def export_network(net: Network, folder: Path, form: ExportFormat) -> dict[str, Any]:
    """Write a network into ``folder`` in one format, and say how to call it.

    Batches may be of any size, images are of the network's own. In ONNX and TorchScript batch norms
    are folded into the convolutions before them. What was written is opened again and held against
    the network on made images: see ``difference`` in what is given back and in ``export.json``, the
    largest distance of a logit as a share of the largest logit.

    Raises:
        ValueError: If a package is missing, the network cannot be written so, or what was written
            answers otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    net = net.cpu().eval()
    file = folder / FILES[form]
    if form == "safetensors":
        net.save(folder)
        call: Call = Served(Network.load(folder))
    else:
        call = _WRITERS[form](Served(net), _images(net, 2), file)
    difference = max(_difference(Served(net), call, _images(net, count)) for count in BATCHES)
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
    look = need_images(net.preprocess)
    size = look.size
    whole = isinstance(look, WholeImage)
    resize = (
        f"the whole image to {size} x {size}"
        if whole
        else f"the shorter side to {round(size / look.crop)}, then the centre {size} x {size}"
    )
    raw = form == "safetensors"
    return {
        "format": form,
        "file": FILES[form],
        "input": {
            "name": "pixels",
            "shape": ["batch", 3, size, size],
            "type": "float32",
            "values": "RGB, normalised as below" if raw else "RGB, 0 to 255; normalised inside",
            "resize": f"{resize}, {look.interpolation} with antialiasing",
            "mean": list(look.mean),
            "std": list(look.std),
        },
        "output": {
            "name": "logits",
            "axes": ["batch", "class", "down", "right"] if whole else ["batch", "class"],
            "unknown": "the last column means none of the classes" if net.threshold < 1 else None,
        },
        "classes": list(net.classes),
    }


def _images(net: Network, count: int) -> Tensor:
    """Make images of noise in the size that the network sees: bytes, as floating point."""
    size = need_images(net.preprocess).size
    random = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 3, size, size), generator=random).float()


@torch.no_grad()
def _difference(one: Call, other: Call, images: Tensor) -> float:
    expected = one(images)
    return float((other(images) - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def _to_onnx(served: Served, example: Tensor, file: Path) -> Call:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError("--format onnx needs packages: pip install 'adaptune[onnx]'") from error
    with _quiet():
        program = torch.onnx.export(
            served,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None
        program.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"pixels": x.numpy()})[0])


def _to_torchscript(served: Served, example: Tensor, file: Path) -> Call:
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(served, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.freeze(traced), str(file))
        return torch.jit.load(str(file))  # type: ignore[no-any-return, no-untyped-call]


def _to_torch_export(served: Served, example: Tensor, file: Path) -> Call:
    with _quiet():
        program = torch.export.export(
            served, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, str(file))
        return torch.export.load(str(file)).module()


_WRITERS: dict[ExportFormat, Callable[[Served, Tensor, Path], Call]] = {
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
