"""A network split at its head: the layers that a linear head stands for, and their names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.runtime.inputs import not_in_python

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Part:
    """A layer of a module that a linear head stands for.

    It reads the features from ``start`` to ``stop``, and ``share`` of what it says counts in the
    module's answer: a half where two heads read different features and their mean counts, 1 where
    they read what is the same to them, 0 where the head leaves it out. Where ``weights`` is the
    name of a tensor of the body, its softmax says the shares instead, in the order of the heads. A
    convolution has a ``kernel`` of as many pixels a side: one of a single pixel is a linear layer
    on features of places or on pooled ones, a larger one is linear in `Patches`.
    """

    name: str
    start: int
    stop: int
    share: float = 1.0
    kernel: int = 0
    weights: str = ""

    def counts(self, body: Mapping[str, Tensor]) -> float:
        """Say how much counts of what the layer says, given the body's state."""
        if self.weights not in body:
            return self.share
        return float(body[self.weights].softmax(0)[int(self.name.rpartition(".")[2])])

    def key(self, name: str) -> str:
        """Give the name that a tensor of the layer has in the module's state dict."""
        return f"{self.name}.{name}" if self.name else name


def layer_of(module: nn.Module, name: str) -> tuple[str, Layer]:
    """Find the layer that is a network's head, and its name; of a sequence it is the last.

    It is linear, or a convolution that keeps the grid, such as one of one pixel.

    Raises:
        ValueError: If there is no such layer, or if it is of another kind.

    >>> layer_of(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "")
    ('1', Linear(in_features=3, out_features=2, bias=True))
    """
    if said := not_in_python(module):
        raise ValueError(f"{said}: give the module that it was made from")
    try:
        head = module.get_submodule(name)
    except AttributeError:
        head = None
    if isinstance(head, nn.Linear):
        return name, head
    if isinstance(head, nn.Conv2d) and _keeps_grid(head):
        return name, head
    if isinstance(head, nn.Sequential) and len(head):
        return layer_of(module, f"{name}.{len(head) - 1}".lstrip("."))
    linear = [key for key, one in module.named_modules() if isinstance(one, nn.Linear)]
    found = f"it is {type(head).__name__}" if head is not None else "there is no such layer"
    raise ValueError(
        f"the head must be a linear layer and {name!r} is not: {found}; linear layers here: "
        f"{linear[-5:] or 'none'}"
    )


def _keeps_grid(layer: nn.Conv2d) -> bool:
    """Whether a convolution has an output at each place, linear in the features around it."""
    side = layer.kernel_size[0]
    like = nn.Conv2d(1, 1, side, padding=side // 2)
    same = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return side % 2 == 1 and all(getattr(layer, one) == getattr(like, one) for one in same)


class Patches(nn.Module):
    """Put the features around each place one behind the other: (N, D, h, w) to (N, D k k, h, w).

    What lies outside is 0, so that a convolution of ``kernel`` pixels a side is linear in these.

    >>> x, layer = torch.randn(2, 3, 4, 5), nn.Conv2d(3, 2, 3, padding=1, bias=False)
    >>> found = torch.einsum("kd,ndhw->nkhw", layer.weight.flatten(1), Patches(3)(x))
    >>> torch.allclose(found, layer(x), atol=1e-6)
    True
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, features: Tensor) -> Tensor:
        """Give each place what lies around it."""
        flat = nn.functional.unfold(features, self.kernel, padding=self.kernel // 2)
        return flat.view(len(features), -1, *features.shape[2:])


def split(module: nn.Module, names: Sequence[str], silent: Sequence[str] = ()) -> tuple[Part, ...]:
    """Take the head out of a module, which gives features (N, D) from then on.

    Where the head is a convolution that is not followed by a mean over places, these are
    (N, D, h, w).

    Heads of several names whose mean counts are one head; members of a ``nn.ModuleList`` read
    features of their own, which come one after the other. Those named in ``silent`` are left out.

    Raises:
        ValueError: If one of them is no linear layer.

    >>> module = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> split(module, ["1"])[0].stop, module(torch.ones(1, 4)).shape
    (3, torch.Size([1, 3]))
    """
    parts: list[Part] = []
    for name in names:
        found, layer = layer_of(module, name)
        sisters = _sisters(module, names, name)
        start = parts[-1].stop if name in sisters[1:] else 0
        stop, share = start + layer.weight[0].numel(), 1 / max(1, len(sisters))
        weights = _weights(module, name) if sisters else ""
        parts.append(Part(found, start, stop, share, _kernel(layer), weights))
    width = max(part.stop for part in parts)
    for name in silent:
        found, layer = layer_of(module, name)
        parts.append(Part(found, 0, layer.weight[0].numel(), 0.0, _kernel(layer)))
    for part in parts:
        if part.name and part.share:
            around = Patches(part.kernel) if part.kernel > 1 else nn.Identity()
            module.set_submodule(part.name, around)
        elif part.name:
            parent, _, last = part.name.rpartition(".")
            setattr(module.get_submodule(parent), last, None)
    dense = any(part.kernel for part in parts)
    module.register_forward_hook(partial(_features, width=width, dense=dense))
    return tuple(parts)


def _kernel(layer: Layer) -> int:
    return layer.kernel_size[0] if isinstance(layer, nn.Conv2d) else 0


def _sisters(module: nn.Module, names: Sequence[str], name: str) -> list[str]:
    """List the heads of a ``nn.ModuleList``, each with features of its own, that ``name`` is in."""
    parent = name.rpartition(".")[0]
    same = [one for one in names if one.rpartition(".")[0] == parent]
    return same if len(same) > 1 and type(module.get_submodule(parent)) is nn.ModuleList else []


def _weights(module: nn.Module, name: str) -> str:
    """Name the tensor by which heads are weighed, as in timm's EfficientViM; nothing if none is."""
    weights = name.rpartition(".")[0].replace("heads", "weights")
    return weights if isinstance(getattr(module, weights, None), nn.Parameter) else ""


def _features(
    module: nn.Module, args: tuple[Any, ...], output: object, *, width: int, dense: bool
) -> Tensor | None:
    """Give the features in what a body answered, as a hook: itself where it is these.

    They are (N, D), or (N, D, h, w) of a network that is ``dense``.
    """
    del args
    found = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        said = f"gave {type(output).__name__}"
    elif found.dim() == 2 and found.shape[1] == width:
        return None if found is output else found
    elif found.dim() == 4 and found.shape[1:] == (width, 1, 1):
        return found.flatten(1)
    elif dense and found.dim() == 4 and found.shape[1] == width:
        return None if found is output else found
    else:
        said = f"gave {tuple(found.shape)}"
    raise ValueError(
        f"{type(module).__name__} without its head should give features (N, {width}) and {said}: "
        "the head is the last layer, one that reads one row of features an image"
    )


def under_names(
    parts: Sequence[Part], head: Mapping[str, Tensor], body: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Give the state of a linear head and a body as that of the module that was split.

    >>> head = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.ones(1)}
    >>> state = under_names([Part("a", 0, 1, 0.5), Part("b", 1, 2, 0.5)], head, {})
    >>> state["b.weight"], state["b.bias"]
    (tensor([[4.]]), tensor([1.]))
    """
    state = dict(body) | {parts[0].key(key): value for key, value in head.items()}
    for part in parts:
        share = part.counts(body)
        own = head["weight"][:, part.start : part.stop]
        own = own / share if share else torch.zeros_like(own)
        side = part.kernel
        state[part.key("weight")] = own.reshape(len(own), -1, side, side) if side else own
        if "bias" in head:
            bias = head["bias"]
            state[part.key("bias")] = bias.clone() if share else torch.zeros_like(bias)
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module its weights; raises where they differ from what it has.

    A file of tensors holds no versions of modules, which torchvision's MNASNet asks for.
    """
    filled = OrderedDict(state)
    filled._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(filled)


def from_names(
    parts: Sequence[Part], state: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part a module's state into that of a linear head, and all that is the body's.

    >>> state = {"fc.weight": torch.ones(2, 1), "stem.weight": torch.ones(1)}
    >>> head, body = from_names([Part("fc", 0, 1)], state)
    >>> list(head), list(body)
    (['weight'], ['stem.weight'])
    """
    first = parts[0].key("")
    if not first:
        return state, {}
    names = tuple(part.key("") for part in parts)
    head = {k.removeprefix(first): v for k, v in state.items() if k.startswith(first)}
    body = {key: value for key, value in state.items() if not key.startswith(names)}
    read = [part for part in parts if part.share and part.key("weight") in state]
    columns = {
        part.start: state[part.key("weight")].flatten(1) * part.counts(body) for part in read
    }
    if columns:
        head["weight"] = torch.cat([columns[start] for start in sorted(columns)], 1)
    return head, body
