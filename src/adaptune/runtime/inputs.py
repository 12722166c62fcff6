"""Inputs and outputs of networks that are not ours: find them, place them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

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


@contextmanager
def in_python() -> Iterator[None]:
    """Run compiled networks uncompiled for a while: compiled code calls no hooks added later."""
    if "torch._dynamo" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield  # nothing can have been compiled


def copy_batch(batch: Any) -> Any:
    """Copy a batch, so that what is done to it in place is not seen; itself where that fails."""
    with suppress(RuntimeError, TypeError):
        return deepcopy(batch)
    return batch


def find_tensors(output: Any) -> Iterator[Tensor]:
    """Find the tensors in whatever a network returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from find_tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from find_tensors(value)
    elif is_dataclass(output) and not isinstance(output, type):
        for one in fields(output):
            yield from find_tensors(getattr(output, one.name))


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


def input_to_device(x: Tensor, model: nn.Module) -> Tensor:
    """Move an input to where the network is, and to its precision.

    One that was made in inference mode is copied outside it, where nothing may be done to it in
    place.
    """
    if x.is_inference() and not torch.is_inference_mode_enabled():
        x = x.clone()
    own = [t for t in chain(model.parameters(), model.buffers()) if not is_lazy(t)]
    if not own:
        return x
    precision = next((t.dtype for t in own if t.is_floating_point()), x.dtype)
    return x.to(own[0].device, precision if x.is_floating_point() else x.dtype)


def not_in_python(model: object) -> str:
    """Say so where a network's code is fixed, so that no layer of it can be found or replaced.

    >>> not_in_python(nn.Linear(1, 1))
    ''
    """
    where = "its layers are not to be found"
    if isinstance(model, torch.export.ExportedProgram):
        return f"the network is exported (torch.export), so {where}"
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, torch.jit.ScriptModule):
            return f"the network is scripted or traced (torch.jit), so {where}"
        if isinstance(module, torch.fx.GraphModule) and _holds_operators(module):
            return f"the network is exported (torch.export), so {where}"
    return ""


def _holds_operators(graph: torch.fx.GraphModule) -> bool:
    """Tell whether it calls torch's operators where the network called layers."""
    targets = (node.target for node in graph.graph.nodes if node.op == "call_function")
    return any(isinstance(target, torch._ops.OpOverload) for target in targets)


def unwrap(model: nn.Module) -> nn.Module:
    """Look through `torch.compile` and (distributed) data parallel wrappers."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(model, attribute, None)
        if isinstance(inner, nn.Module) and type(model).__module__.startswith(
            ("torch", "lightning")
        ):
            return unwrap(inner)
    return model
