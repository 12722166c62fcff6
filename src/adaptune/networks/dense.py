"""Networks of places: features of several stages of a timm model, on the finest stage's grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.architectures import (
    Architecture,
    Origin,
    WholeImage,
    perhaps,
)

HEAD = "readout"
"""What the head is called in the files of such a network, where timm has none."""

FLAT = re.compile(r"^([a-z]+)_(\d+)\.")
"""How timm's features call a part of a sequence: ``stages_0`` is the model's ``stages.0``."""


def timm_features(
    name: str,
    *,
    stride: int = 8,
    stages: Sequence[int] = (),
    pretrained: bool = False,
    size: int | None = None,
) -> Architecture:
    """Build the stages of a timm model whose features lie ``stride`` pixels apart or more.

    Of each distance the last stage counts. A linear head that reads what they give together,
    coarser ones brought to the grid of the finest, is linear in pretrained features; the
    interpolation mixes neighbours by shares that add up to 1.

    Args:
        name: The name in timm.
        stride: The least distance of neighbouring features, in pixels.
        stages: The numbers of the stages, where they are known.
        pretrained: Whether to have timm's weights.
        size: The side of images, where it is not the network's own.

    Raises:
        ValueError: If timm does not know the name, the model has no such stages, or its weights
            cannot be had.
    """
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        raise ValueError(f"timm has no model named {name!r}; {perhaps(near)}see timm.list_models()")
    options: dict[str, Any] = {"features_only": True}
    settings = timm.get_pretrained_cfg(name)
    if size is not None and settings.fixed_input_size:
        options["img_size"] = size
    chosen = list(stages) or _stages(name, options, stride)
    try:
        model = timm.create_model(name, pretrained=pretrained, out_indices=chosen, **options)
    except Exception as error:
        if not pretrained:
            raise _no_stages(name, error) from error
        raise ValueError(
            f"the weights of {name} could not be had from timm's hub ({error}): give a local "
            "file with --weights FILE, or --weights none for random weights"
        ) from error
    model.register_forward_hook(_joined)
    said = timm.data.resolve_data_config(settings.to_dict())
    look = WholeImage(
        size=size or said["input_size"][-1],
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        interpolation="bicubic" if said["interpolation"] == "bicubic" else "bilinear",
        crop=1.0,
    )
    return Architecture(
        model,
        Origin("timm-features", name, HEAD),
        (),
        look,
        config={"stages": chosen},
        width=sum(model.feature_info.channels()),
    )


def _stages(name: str, options: dict[str, Any], stride: int) -> list[int]:
    """Find the last stage of each distance from ``stride`` on."""
    import timm

    try:
        with torch.device("meta"):
            known = timm.create_model(name, **options).feature_info
    except Exception as error:  # every architecture has errors of its own
        raise _no_stages(name, error) from error
    apart = [known.get_dicts()[at]["reduction"] for at in range(len(known.get_dicts()))]
    last = {distance: at for at, distance in enumerate(apart) if distance >= stride}
    if not last:
        raise ValueError(
            f"{name} has no features {stride} pixels apart or more: its stages are "
            f"{', '.join(map(str, apart))} apart, so give another --stride"
        )
    return sorted(known.out_indices[at] for at in last.values())


def _no_stages(name: str, error: Exception) -> ValueError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return ValueError(
        f"{name} gives no features by stages in timm ({reason}): take another --backbone, such as "
        "resnet50 or efficientnet-lite0"
    )


def _joined(module: nn.Module, args: tuple[Any, ...], output: list[Tensor]) -> Tensor:
    """Put the features of stages one behind the other, (N, D, h, w), as a hook."""
    del module, args
    size = output[0].shape[2:]
    alike = [
        one
        if one.shape[2:] == size
        else F.interpolate(one, size, mode="bilinear", align_corners=False)
        for one in output
    ]
    return torch.cat(alike, 1)


def named_as_whole(name: str) -> str:
    """Give the name that a tensor of a model's features has in the whole model.

    >>> named_as_whole("stages_0.blocks.1.weight"), named_as_whole("model.blocks.0.weight")
    ('stages.0.blocks.1.weight', 'blocks.0.weight')
    """
    return FLAT.sub(r"\1.\2.", name.removeprefix("model."))
