"""Batch-norm conversion: new statistics for every layer, the same function as before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.batchnorm.layers import batchnorms, unconverted, wrapper_notes
from adaptune.batchnorm.moments import moments
from adaptune.batchnorm.precision import PENDING, RunningMoments
from adaptune.batchnorm.reexpression import convert_layer, learns, list_layers
from adaptune.batchnorm.report import ConversionReport, LayerConversion, largest_change
from adaptune.runtime.inputs import (
    copy_batch,
    find_input,
    find_tensors,
    in_eval,
    in_python,
    input_to_device,
    not_in_python,
    unwrap,
)
from adaptune.runtime.memory import keep_freed_memory
from adaptune.runtime.processes import gather_each, rank_and_world

__all__ = ["ConversionReport", "LayerConversion", "convert_batchnorm"]

WITNESSES = 4
"""Examples that the network sees again after conversion."""


@torch.inference_mode(False)  # what is made here is trained later, wherever this is called
def convert_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    pooling: Literal["exact", "batch"] = "exact",
    tolerance: float = 0.0,
    missing_affine: Literal["insert", "skip"] = "insert",
    forward: Callable[[nn.Module, Any], Any] | None = None,
    watch: Callable[[Any, Any], None] | None = None,
) -> ConversionReport:
    """Give every batch norm the statistics of ``batches`` and leave the network's function alone.

    The network runs once over ``batches`` in eval mode. Each layer's input is measured against the
    layer's original statistics, then weight and bias absorb the difference, in place. Afterwards
    train mode starts near the function that eval mode computes. Source: Domain-Aware Fine-Tuning
    (Ha, Jeong and Lee, 2024). Where several processes run, all must call this, each with its own
    batches; they get the same statistics and the same report.

    Args:
        model: Any module. Layers keep their ``requires_grad``; training flags are restored.
        batches: Tensors (N, ...), tuples that start with one, or mappings with one under a usual
            name (`x`, `image`, `pixel_values`, ...). No length is needed. Inputs are moved to the
            network's device and precision.
        pooling: ``exact`` pools all values by count in float64 (Chan et al., 1983). ``batch`` is
            the reference arithmetic: the mean of batch means and of unbiased batch variances.
        tolerance: End the pass, after every sixteenth batch, once every channel's mean is known to
            within this standard error, in deviations, and every variance to within this share. It
            takes batches in random order. By default all batches are used.
        missing_affine: What to do with a layer that has no weight or bias: ``insert`` adds them,
            which is exact and adds keys to the state dict; ``skip`` leaves the layer as it is.
        forward: How to run the network on a batch, for inputs of another form.
        watch: Called with each batch and its output, for whoever else needs this pass.

    Raises:
        ValueError: If there are no batches, if no input is found in one or no tensor in the
            network's answer, or if the network holds layers fused for quantisation.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    >>> x = torch.randn(64, 3)
    >>> before = net(x)
    >>> report = convert_batchnorm(net, x.split(16))
    >>> report.converted, torch.allclose(net(x), before, atol=1e-5)
    (1, True)
    """
    _need_layers(model)
    notes = tuple(wrapper_notes(model))
    model = unwrap(model)
    _refuse_fused(model)
    norms = dict(batchnorms(model))
    notes += tuple(unconverted(model))
    if not norms and watch is None:
        return ConversionReport((), pooling, notes=notes)
    run = forward or (lambda net, batch: net(input_to_device(find_input(batch), net)))
    seen: dict[str, RunningMoments] = {}
    first: tuple[Any, list[Tensor]] | None = None
    number = examples = 0
    enough = tolerance * math.sqrt(
        rank_and_world()[1]
    )  # where processes pool, each needs to know less
    with torch.no_grad(), keep_freed_memory(), _measuring(model, norms, seen, pooling, tolerance):
        for batch in batches:
            number += 1
            copy = copy_batch(batch) if first is None else None
            output = run(model, batch)
            found = list(find_tensors(output))
            if not found:
                raise ValueError(
                    f"the network answered with {type(output).__name__}, in which no tensor was "
                    "found: pass forward=lambda model, batch: <the tensors of model(batch)>"
                )
            examples += _rows(found if forward else [find_input(batch)])
            if first is None and any(t.numel() for t in found):
                first = _witnesses(copy, found, whole=forward is not None)
            if watch is not None:
                watch(batch, output)
            if tolerance and number % PENDING == 0 and _error(seen, norms) <= enough:
                break
    number, examples = _added(model, number, examples)
    layers = tuple(
        convert_layer(
            layer,
            norms[layer.name],
            seen.get(layer.name),
            pooling,
            missing_affine,
            number,
            learns=learns(model, layer.name),
        )
        for layer in list_layers(model, norms)
    )
    change, relative = _certificate(model, run, first)
    error = _error(seen, norms) if tolerance else 0.0
    return ConversionReport(layers, pooling, number, examples, change, relative, notes, error)


def _error(seen: Mapping[str, RunningMoments], norms: Mapping[str, _BatchNorm]) -> float:
    return max((known.error(norms[name].eps) for name, known in seen.items()), default=0.0)


def _witnesses(batch: Any, found: list[Tensor], *, whole: bool) -> tuple[Any, list[Tensor]]:
    """Keep a few rows of a batch, or all where outputs have other rows, with what came of them."""
    rows = 0 if whole else len(find_input(batch))
    if rows and all(t.dim() and len(t) == rows for t in found):
        return find_input(batch)[:WITNESSES], [t[:WITNESSES].clone() for t in found]
    return batch, [t.clone() for t in found]


def _rows(found: list[Tensor]) -> int:
    """Count examples by the longest of some tensors; a detector's answer may start with no box."""
    return max(len(t) if t.dim() else 0 for t in found)


def _added(model: nn.Module, number: int, examples: int) -> tuple[int, int]:
    """Add up batches and examples over all processes; refuse if there were none."""
    counts = torch.tensor([number, examples], device=_device(model))
    number, examples = torch.stack(gather_each(counts)).sum(0).tolist()
    if not examples:
        raise ValueError("conversion needs at least one batch with an example and got none")
    return number, examples


def _certificate(
    model: nn.Module,
    run: Callable[[nn.Module, Any], Any],
    first: tuple[Any, list[Tensor]] | None,
) -> tuple[float, float]:
    """Run the first batch again: how far outputs moved, absolutely and over the largest output."""
    change, largest = 0.0, 0.0
    if first is not None:
        with torch.no_grad(), in_eval(model), in_python():
            after = list(find_tensors(run(model, first[0])))
        change, largest = largest_change(first[1], after)
    both = torch.tensor([change, largest], device=_device(model))
    change, largest = torch.stack(gather_each(both)).amax(0).tolist()
    return change, change / max(largest, torch.finfo(both.dtype).tiny)


def _device(model: nn.Module) -> torch.device:
    own = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if own is None else own.device


@contextmanager
def _measuring(
    model: nn.Module,
    norms: Mapping[str, _BatchNorm],
    seen: dict[str, RunningMoments],
    pooling: str,
    tolerance: float,
) -> Iterator[None]:
    """Measure the input of every layer while the network runs in eval mode."""

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if name not in seen:
            seen[name] = RunningMoments(by_batch=pooling == "batch", with_error=tolerance > 0)
        seen[name].add(moments(args[0] if args else next(iter(kwargs.values()))))

    def hook(name: str) -> Callable[..., None]:
        return lambda _module, args, kwargs: look(name, args, kwargs)

    hooks = [
        norm.register_forward_pre_hook(hook(name), with_kwargs=True) for name, norm in norms.items()
    ]
    try:
        with in_eval(model), in_python():
            yield
    finally:
        for one in hooks:
            one.remove()


def _need_layers(model: object) -> None:
    if not isinstance(model, nn.Module):
        found = not_in_python(model) or f"a network should be a module: got {type(model).__name__}"
        raise ValueError(f"{found}; convert the network that it was made from, before that")


def _refuse_fused(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if ".intrinsic." in type(module).__module__ or ".qat." in type(module).__module__:
            raise ValueError(
                f"{name} ({type(module).__name__}) is fused for quantisation, so its batch norm "
                "cannot be converted: convert first, then prepare the network for quantisation"
            )
