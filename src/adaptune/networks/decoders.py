"""Networks of places with a decoder: of segmentation-models-pytorch and of torchvision.

All but the last layer is the body, which gives the decoder's features (N, D, h, w) on the decoder's
own grid, without what the libraries do to bring outputs to the image's.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from adaptune.networks.architectures import Architecture, Origin, WholeImage, perhaps

MORE_LAYERS = ("dpt",)
"""The decoders of segmentation-models-pytorch whose outputs no single layer gives."""

FAMILIES = ("fcn_", "deeplabv3_")
"""The torchvision architectures that end with one layer which reads places one by one."""


def smp_architecture(
    name: str, *, pretrained: bool = False, size: int | None = None
) -> Architecture:
    """Build a decoder of segmentation-models-pytorch on a timm encoder, ``DECODER/ENCODER``.

    The decoder starts at random; where it is ``pretrained``, the encoder has timm's weights.

    Raises:
        ValueError: If the library is not installed, there is no such decoder or encoder, the two do
            not fit, or the weights cannot be had.
    """
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        raise ValueError(
            "smp/DECODER/ENCODER needs segmentation-models-pytorch: pip install 'adaptune[smp]'"
        )
    import segmentation_models_pytorch as smp
    import timm

    decoder, _, encoder = name.partition("/")
    known = [one for one in smp.MODEL_ARCHITECTURES_MAPPING if one not in MORE_LAYERS]
    if decoder not in known or not encoder:
        raise ValueError(
            f"smp/{name} names no decoder and encoder: expected smp/DECODER/ENCODER, such as "
            f"smp/fpn/resnet50; decoders are {', '.join(known)}"
        )
    if not timm.is_model(encoder):
        near = timm.list_models(f"*{encoder}*")[:5]
        raise ValueError(f"timm has no model named {encoder!r}, the encoder; {perhaps(near)}")
    settings = timm.get_pretrained_cfg(encoder)
    options: dict[str, Any] = {}
    if size is not None and settings.fixed_input_size:
        options["img_size"] = size
    try:
        model = smp.create_model(
            decoder, f"tu-{encoder}", encoder_weights=pretrained or None, **options
        )
    except OSError as error:
        raise _no_weights(encoder, error) from error
    except Exception as error:  # every pair has errors of its own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(
            f"smp/{name} cannot be built ({reason}): take another encoder, such as resnet50, or "
            "another decoder"
        ) from error
    model.segmentation_head[1] = nn.Identity()  # outputs stay on the decoder's grid
    said = timm.data.resolve_data_config(settings.to_dict())
    look = WholeImage(
        size=size or said["input_size"][-1],
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        interpolation="bicubic" if said["interpolation"] == "bicubic" else "bilinear",
        crop=1.0,
    )
    head = "segmentation_head.0"
    return Architecture(model, Origin("smp", name, head), (head,), look, neck=("decoder",))


def has_decoder(name: str) -> bool:
    """Tell whether torchvision's network of a name has a decoder that can be used here.

    >>> has_decoder("fcn_resnet50"), has_decoder("lraspp_mobilenet_v3_large")
    (True, False)
    """
    from torchvision import models

    return name.startswith(FAMILIES) and name in models.list_models(models.segmentation)


def torchvision_decoder(
    name: str, *, pretrained: bool = False, size: int | None = None
) -> Architecture:
    """Build an FCN or a DeepLabV3 of torchvision, without its auxiliary head.

    Raises:
        ValueError: If the weights cannot be had.
    """
    from torchvision import models

    own = models.get_model_weights(name).DEFAULT.transforms()
    weights = "DEFAULT" if pretrained else None
    try:
        model = models.get_model(name, weights=weights, weights_backbone=None)
    except OSError as error:
        raise _no_weights(name, error) from error
    model.backbone.register_forward_hook(_last)
    body = nn.Sequential(OrderedDict(backbone=model.backbone, classifier=model.classifier))
    look = WholeImage(
        size=size or own.resize_size[0],
        mean=tuple(own.mean),
        std=tuple(own.std),
        interpolation=own.interpolation.value,
        crop=1.0,
    )
    head = "classifier.4"
    neck = () if pretrained else ("classifier",)
    return Architecture(body, Origin("torchvision", name, head), (head,), look, neck=neck)


def _last(module: nn.Module, args: tuple[Any, ...], output: dict[str, Tensor]) -> Tensor:
    """Give the last of a backbone's features, as a hook."""
    del module, args
    return output["out"]


def _no_weights(name: str, error: Exception) -> ValueError:
    return ValueError(
        f"the weights of {name} could not be had ({error}): give a local file with --weights FILE, "
        "or --weights none for random weights"
    )
