"""Batch-norm conversion: new statistics for every layer, the same function as before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from adaptune.ops.batchnorm import batchnorms, oddities, unconverted, wrapper_notes
from adaptune.ops.conversion_report import ConversionReport, LayerConversion, largest_change
from adaptune.ops.inputs import find_input, in_eval, in_python, kept, placed, tensors, unwrapped
from adaptune.ops.moments import (
    Moments,
    as_one_value,
    from_values,
    merge_across_processes,
    moments,
    wide,
)
from adaptune.ops.processes import everyone

__all__ = ["ConversionReport", "LayerConversion", "convert_batchnorm"]


def convert_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    pooling: Literal["exact", "batch"] = "exact",
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
    notes = tuple(wrapper_notes(model))
    model = unwrapped(model)
    _refuse_fused(model)
    norms = dict(batchnorms(model))
    notes += tuple(unconverted(model))
    if not norms and watch is None:
        return ConversionReport((), pooling, notes=notes)
    run = forward or (lambda net, batch: net(placed(find_input(batch), net)))
    seen: dict[str, Moments] = {}
    first: tuple[Any, list[Tensor]] | None = None
    number = examples = 0
    with torch.no_grad(), _measuring(model, norms, seen, pooling):
        for batch in batches:
            number += 1
            copy = kept(batch) if first is None else None
            output = run(model, batch)
            found = list(tensors(output))
            if not found:
                raise ValueError(
                    f"the network answered with {type(output).__name__}, in which no tensor was "
                    "found: pass forward=lambda model, batch: <the tensors of model(batch)>"
                )
            examples += _rows(found if forward else [find_input(batch)])
            if first is None and any(t.numel() for t in found):
                first = (copy, [t.clone() for t in found])
            if watch is not None:
                watch(batch, output)
    number, examples = _added(model, number, examples)
    layers = tuple(
        _convert(layer, norms[layer.name], seen.get(layer.name), pooling, missing_affine, number)
        for layer in _listed(model, norms)
    )
    change, relative = _certificate(model, run, first)
    return ConversionReport(layers, pooling, number, examples, change, relative, notes)


def _rows(found: list[Tensor]) -> int:
    """Count examples by the longest of some tensors; a detector's answer may start with no box."""
    return max(len(t) if t.dim() else 0 for t in found)


def _added(model: nn.Module, number: int, examples: int) -> tuple[int, int]:
    """Add up batches and examples over all processes; refuse if there were none."""
    counts = torch.tensor([number, examples], device=_device(model))
    number, examples = torch.stack(everyone(counts)).sum(0).tolist()
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
            after = list(tensors(run(model, first[0])))
        change, largest = largest_change(first[1], after)
    both = torch.tensor([change, largest], device=_device(model))
    change, largest = torch.stack(everyone(both)).amax(0).tolist()
    return change, change / max(largest, torch.finfo(both.dtype).tiny)


def _device(model: nn.Module) -> torch.device:
    own = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if own is None else own.device


def _listed(model: nn.Module, norms: Mapping[str, _BatchNorm]) -> Iterator[LayerConversion]:
    """List the layers after the pass; those that cannot be converted say why."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for tensor in chain(module.parameters(recurse=False), module.buffers(recurse=False)):
            owners[id(tensor)].append(name)
    for name, norm in norms.items():
        own = [
            tensor
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            if tensor is not None
        ]
        tied = [other for tensor in own for other in owners[id(tensor)] if other != name]
        reason = ""
        if norm.running_mean is None or norm.running_var is None:
            reason = "keeps no running statistics: eval mode normalises by the batch already"
        elif any(is_lazy(tensor) for tensor in own):
            reason = "is lazy and no value reached it, so it has no channels yet"
        elif is_parametrized(norm) or not all(
            key in norm._parameters for key in ("weight", "bias")
        ):
            reason = "its weight is parametrised: remove the parametrisation first"
        elif tied:
            reason = f"shares tensors with {tied[0]}, so both cannot be exact"
        yield LayerConversion(
            name, type(norm).__name__, norm.num_features, reason=reason, notes=(*oddities(norm),)
        )


def _convert(
    layer: LayerConversion,
    norm: _BatchNorm,
    seen: Moments | None,
    pooling: str,
    missing_affine: str,
    batches: int,
) -> LayerConversion:
    """Re-express one layer in new statistics, or say why not."""
    if layer.reason:
        return layer
    mean, variance = (wide(one) for one in _statistics(norm))
    new = _pooled(mean, seen, pooling)
    layer = replace(layer, count=new.count)
    lacks = norm.weight is None or norm.bias is None
    if new.count == 0:
        reason = "no value reached it during the pass: it is unused, or called as a function"
        return replace(layer, reason=reason)
    if new.count == 1:
        return replace(layer, reason="one value a channel has no variance: give larger batches")
    if lacks and missing_affine == "skip":
        reason = "has no weight or bias to absorb the change (affine=False)"
        return replace(layer, reason=reason)
    with torch.no_grad():
        fits = _reexpressed(norm, new)
        if not all(bool(value.isfinite().all()) for value in fits.values()):
            return replace(layer, reason="its inputs are not finite, or overflow its precision")
        shift = float(((new.mean - mean).abs() / (variance + norm.eps).sqrt()).mean())
        _write(norm, fits, batches)
    return replace(
        layer,
        status="converted",
        shift=shift,
        dead=tuple((new.variance() < norm.eps).nonzero().flatten().tolist()),
        inserted=lacks,
        notes=layer.notes + (("weight or bias inserted",) if lacks else ()),
    )


def _reexpressed(norm: _BatchNorm, new: Moments) -> dict[str, Tensor]:
    """Compute the same function in new statistics, each tensor in the precision of its place."""
    own_mean, own_variance = _statistics(norm)
    mean, variance = wide(own_mean), wide(own_variance)
    weight = torch.ones_like(mean) if norm.weight is None else wide(norm.weight)
    bias = torch.zeros_like(mean) if norm.bias is None else wide(norm.bias)
    deviation = (variance + norm.eps).sqrt()
    # Weight and bias answer to the statistics as they will be stored, that is, rounded.
    new_mean = wide(new.mean.to(own_mean))
    new_variance = wide(new.variance().to(own_variance))
    # Without epsilon, a channel that never varies would divide by zero: it keeps its variance.
    new_variance = new_variance.where(new_variance + norm.eps > 0, variance)
    fresh = {
        "weight": weight * (new_variance + norm.eps).sqrt() / deviation,
        "bias": bias + weight * (new_mean - mean) / deviation,
        "running_mean": new_mean,
        "running_var": new_variance,
    }
    places = (getattr(norm, key) for key in fresh)
    return {
        key: value.to(own_mean if place is None else place)
        for (key, value), place in zip(fresh.items(), places, strict=True)
    }


def _write(norm: _BatchNorm, values: dict[str, Tensor], batches: int) -> None:
    for key, value in values.items():
        if getattr(norm, key) is None:
            setattr(norm, key, nn.Parameter(value))
        else:
            getattr(norm, key).copy_(value)
    norm.affine = True
    if norm.momentum is None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(batches)  # the cumulative average goes on from here


def _pooled(mean: Tensor, own: Moments | None, pooling: str) -> Moments:
    """Pool what a layer saw, here and in every other process."""
    none = torch.zeros_like(mean).repeat(3 if pooling == "batch" else 1)
    pooled = merge_across_processes(own or Moments(0, none, none))
    if pooling == "exact":
        return pooled
    averaged = from_values(pooled)
    return averaged if averaged.count else replace(averaged, count=int(own is not None))


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


@contextmanager
def _measuring(
    model: nn.Module,
    norms: Mapping[str, _BatchNorm],
    seen: dict[str, Moments],
    pooling: str,
) -> Iterator[None]:
    """Measure the input of every layer while the network runs in eval mode."""

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        one = moments(args[0] if args else next(iter(kwargs.values())))
        one = as_one_value(one) if pooling == "batch" else one
        seen[name] = seen[name].merge(one) if name in seen else one

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


def _refuse_fused(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if ".intrinsic." in type(module).__module__ or ".qat." in type(module).__module__:
            raise ValueError(
                f"{name} ({type(module).__name__}) is fused for quantisation, so its batch norm "
                "cannot be converted: convert first, then prepare the network for quantisation"
            )
