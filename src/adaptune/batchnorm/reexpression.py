"""One batch norm in other statistics: the same function, or the reason why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from adaptune.batchnorm.layers import oddities
from adaptune.batchnorm.moments import Moments, from_values, merge_across_processes
from adaptune.batchnorm.precision import RunningMoments
from adaptune.batchnorm.report import LayerConversion
from adaptune.runtime.devices import to_float64


def list_layers(model: nn.Module, norms: Mapping[str, _BatchNorm]) -> Iterator[LayerConversion]:
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


def convert_layer(
    layer: LayerConversion,
    norm: _BatchNorm,
    seen: RunningMoments | None,
    pooling: str,
    missing_affine: str,
    batches: int,
    *,
    learns: bool = True,
) -> LayerConversion:
    """Re-express one layer in new statistics, or say why not.

    Weights that are inserted require gradients if ``learns`` says so.
    """
    if layer.reason:
        return layer
    mean, variance = (to_float64(one) for one in _statistics(norm))
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
        _write(norm, fits, batches, learns=learns)
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
    mean, variance = to_float64(own_mean), to_float64(own_variance)
    weight = torch.ones_like(mean) if norm.weight is None else to_float64(norm.weight)
    bias = torch.zeros_like(mean) if norm.bias is None else to_float64(norm.bias)
    deviation = (variance + norm.eps).sqrt()
    # Weight and bias answer to the statistics as they will be stored, that is, rounded.
    new_mean = to_float64(new.mean.to(own_mean))
    new_variance = to_float64(new.variance().to(own_variance))
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


def learns(model: nn.Module, name: str) -> bool:
    """Tell whether a layer learns: it, or the first module around it that has parameters.

    >>> learns(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, affine=False)), "1")
    True
    """
    while True:
        around = list(model.get_submodule(name).parameters())
        if around or not name:
            return any(one.requires_grad for one in around) or not around
        name = name.rpartition(".")[0]


def _write(norm: _BatchNorm, values: dict[str, Tensor], batches: int, *, learns: bool) -> None:
    for key, value in values.items():
        place = getattr(norm, key)
        if place is None:
            setattr(norm, key, nn.Parameter(value, requires_grad=learns))
        else:
            with torch.inference_mode(place.is_inference()), torch.no_grad():
                place.copy_(value)
    norm.affine = True
    if norm.momentum is None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(batches)  # the cumulative average goes on from here


def _pooled(mean: Tensor, own: RunningMoments | None, pooling: str) -> Moments:
    """Pool what a layer saw, here and in every other process."""
    none = torch.zeros_like(mean).repeat(3 if pooling == "batch" else 1)
    pooled = merge_across_processes(own.pooled() if own else Moments(0, none, none))
    if pooling == "exact":
        return pooled
    averaged = from_values(pooled)
    return averaged if averaged.count else replace(averaged, count=int(own is not None))


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
