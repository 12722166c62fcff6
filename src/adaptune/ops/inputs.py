"""Inputs and outputs of networks that are not ours: find them, place them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

INPUT_NAMES = ("x", "image", "images", "pixel_values", "input", "inputs", "data")


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Hold the network in eval mode for a while; every module gets its own flag back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def tensors(output: Any) -> Iterator[Tensor]:
    """Find the tensors in whatever a network returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from tensors(value)


def find_input(batch: Any) -> Tensor:
    """Find the network's input in a batch."""
    if isinstance(batch, Mapping):
        named = [batch[name] for name in INPUT_NAMES if name in batch]
        if named:
            return find_input(named[0])
        raise ValueError(
            f"no input found in a batch with the keys {sorted(map(str, batch))}: "
            "pass forward=lambda model, batch: model(batch[...])"
        )
    if isinstance(batch, tuple | list) and batch:
        return find_input(batch[0])
    if hasattr(batch, "x"):
        return find_input(batch.x)
    if not isinstance(batch, Tensor):
        raise ValueError(
            f"a batch should be a tensor, a tuple that starts with one, or a mapping; got "
            f"{type(batch).__name__}: pass forward=lambda model, batch: model(...)"
        )
    return batch


def placed(x: Tensor, model: nn.Module) -> Tensor:
    """Move an input to where the network is, and to its precision."""
    own = next(
        (p for p in model.parameters() if not isinstance(p, nn.UninitializedParameter)), None
    )
    if own is None:
        return x
    return x.to(own.device, own.dtype if x.is_floating_point() else None)


def unwrapped(model: nn.Module) -> nn.Module:
    """Look through `torch.compile` and (distributed) data parallel wrappers."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(model, attribute, None)
        if isinstance(inner, nn.Module) and type(model).__module__.startswith(
            ("torch", "lightning")
        ):
            return unwrapped(inner)
    return model
