"""Architectures of timm and torchvision by name, and what says how images are made into inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from adaptune.networks.inputs import IMAGENET_MEAN as IMAGENET_MEAN
from adaptune.networks.inputs import IMAGENET_STD as IMAGENET_STD
from adaptune.networks.inputs import Look
from adaptune.networks.inputs import Preprocess as Preprocess
from adaptune.networks.inputs import WholeImage as WholeImage
from adaptune.runtime.inputs import in_eval, input_to_device

SIDES = {"vit_": "image_size", "maxvit_": "input_size"}
"""The torchvision architectures that are made for one size of images, and how that is called."""

BUILT = 224
"""The side of images that torchvision's builders take without being told."""

AUXILIARY = ("googlenet", "inception_v3")
"""The torchvision architectures that have further heads to train with; they are left out."""


@dataclass(frozen=True)
class Origin:
    """Where a network's architecture comes from, so that it can be built again.

    ``kind`` is ``timm``, ``torchvision``, ``transformers``, ``timm-features`` (stages of a timm
    model, see `timm_features`), ``smp`` (see `smp_architecture`), ``clip`` (see `clip_network`) or
    ``module`` (the caller's own, given again on loading); ``head`` is the name of the layer that
    the head stands for, the first of them where these are several. Of ``text`` and ``tokens`` (see
    `text_backbone`) and ``clip`` none is in the module.
    """

    kind: Literal[
        "timm",
        "torchvision",
        "transformers",
        "timm-features",
        "smp",
        "text",
        "tokens",
        "clip",
        "module",
    ]
    name: str
    head: str


@dataclass(frozen=True)
class Architecture:
    """A module as a library makes it, with the names of its heads; see `split` for ``silent``.

    ``config`` is what builds it again, where a name does not. One without a head gives features
    (N, ``width``, h, w) by itself. ``neck`` names the parts of the module, beside its head, that
    are random while the others are pretrained, as a new decoder is.
    """

    module: nn.Module
    origin: Origin
    heads: tuple[str, ...]
    preprocess: Look
    silent: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    width: int = 0
    neck: tuple[str, ...] = ()


def timm_architecture(
    name: str, classes: int, *, pretrained: bool = False, size: int | None = None
) -> Architecture:
    """Build a timm model by name, with its own preprocessing.

    One that does not take images of ``size`` as it is, where that is given, is made for it.

    Raises:
        ValueError: If timm does not know the name, the weights cannot be had, or the model is no
            classifier or cannot be made for that size.
    """
    import timm

    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        raise ValueError(f"timm has no model named {name!r}; {perhaps(near)}see timm.list_models()")
    options: dict[str, Any] = {}
    try:
        model = timm.create_model(name, pretrained=pretrained)
        heads = _timm_heads(model)
        if any(isinstance(model.get_submodule(head), nn.Identity) for head in heads):
            options["num_classes"] = classes  # a body alone by default, as of self-supervision
            model = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise ValueError(
            f"the weights of {name} could not be had from timm's hub ({error}): give a local "
            "file with --weights FILE, or --weights none for random weights"
        ) from error
    if (
        size is not None
        and timm.get_pretrained_cfg(name).fixed_input_size
        and not takes(model, size)
    ):
        try:
            model = timm.create_model(name, pretrained=pretrained, img_size=size, **options)
        except Exception as error:  # every architecture has errors of its own
            raise cannot_take(name, size, error) from error
    if not heads:
        raise ValueError(
            f"{name} has no head in timm, so it is no classifier: take one of timm.list_models()"
        )
    if type(model).__name__.startswith("EfficientViM"):
        model.num_classes = 0  # it joins the features of its stages only if told so
    settings = timm.data.resolve_data_config(model=model)
    preprocess = Preprocess(
        size=size or settings["input_size"][-1],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        interpolation="bicubic" if settings["interpolation"] == "bicubic" else "bilinear",
        crop=settings["crop_pct"],
    )
    silent = tuple(head for head in heads if head == "aux_head")
    heads = tuple(head for head in heads if head not in silent)
    return Architecture(model, Origin("timm", name, heads[0]), heads, preprocess, silent)


def _timm_heads(model: nn.Module) -> tuple[str, ...]:
    named: Any = model.pretrained_cfg["classifier"]  # type: ignore[index]
    return (named,) if isinstance(named, str) else tuple(named or ())


def torchvision_architecture(
    name: str, *, pretrained: bool = False, size: int | None = None
) -> Architecture:
    """Build a torchvision classification model by name, with the preprocessing of its weights.

    Raises:
        ValueError: If torchvision does not know the name, the weights cannot be had, or the model
            cannot be made for images of that size.
    """
    from torchvision import models

    if name not in models.list_models(models):
        near = [known for known in models.list_models(models) if name.lower() in known][:5]
        raise ValueError(f"torchvision has no model named {name!r}; {perhaps(near)}")
    preprocess = torchvision_preprocess(name)
    try:
        model = models.get_model(
            name,
            weights="DEFAULT" if pretrained else None,
            **_torchvision_options(name, preprocess.size, pretrained=pretrained, size=size),
        )
    except OSError as error:
        raise ValueError(
            f"the weights of {name} could not be had ({error}): give a local file with "
            "--weights FILE, or --weights none for random weights"
        ) from error
    except (ValueError, AssertionError) as error:  # also where its weights are for one size alone
        if size is None:
            raise
        raise cannot_take(name, size, error) from error
    linear = [key for key, one in model.named_modules() if isinstance(one, nn.Linear)]
    layers = linear or [key for key, one in model.named_modules() if isinstance(one, nn.Conv2d)]
    origin = Origin("torchvision", name, layers[-1])
    look = replace(preprocess, size=size or preprocess.size)
    return Architecture(model, origin, (layers[-1],), look)


def torchvision_preprocess(name: str) -> Preprocess:
    """Say how images are made into inputs by the transforms of a model's own weights.

    >>> look = torchvision_preprocess("resnet50")
    >>> look.size, round(look.size / look.crop)
    (224, 232)
    """
    from torchvision import models

    own = models.get_model_weights(name).DEFAULT.transforms()
    size = own.crop_size[0]
    return Preprocess(
        size, tuple(own.mean), tuple(own.std), own.interpolation.value, size / own.resize_size[0]
    )


def _torchvision_options(
    name: str, own: int, *, pretrained: bool, size: int | None
) -> dict[str, Any]:
    """Say what a model is built with beside its name."""
    options: dict[str, Any] = {}
    side = size or own
    if name in AUXILIARY:
        options |= {"aux_logits": False, "transform_input": True}
        options |= {} if pretrained else {"init_weights": True}
    for family, argument in SIDES.items():
        if name.startswith(family) and side != BUILT:
            options[argument] = side if argument == "image_size" else (side, side)
    return options


def see(module: nn.Module, size: int) -> None:
    """Show a module one image of ``size`` pixels a side; what it raises, it raises."""
    image = input_to_device(torch.zeros(1, 3, size, size), module)
    with torch.no_grad(), torch.random.fork_rng([]), in_eval(module):
        module(image)


def takes(module: nn.Module, size: int) -> bool:
    """Tell whether a module takes images of ``size`` pixels as it is.

    >>> takes(nn.Conv2d(3, 1, 8), 8), takes(nn.Conv2d(3, 1, 8), 7)
    (True, False)
    """
    try:
        see(module, size)
    except Exception:  # every architecture has errors of its own
        return False
    return True


def cannot_take(name: str, size: int, error: Exception) -> ValueError:
    """Say that a network cannot see images of ``size`` pixels, and what it said itself."""
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return ValueError(
        f"{name} cannot take images of {size} pixels ({reason}): give another --image-size, "
        "its own or a multiple of its patches and windows, or another --backbone"
    )


def perhaps(names: list[str]) -> str:
    """Suggest names that are near to one that is not known."""
    return f"did you mean {', '.join(names)}? " if names else ""
