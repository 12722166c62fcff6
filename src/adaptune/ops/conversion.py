"""Batch-norm conversion: new statistics for every layer, the same function as before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from adaptune.ops.batchnorm import batchnorms, oddities, other_norms
from adaptune.ops.inputs import find_input, in_eval, placed, tensors, unwrapped
from adaptune.ops.moments import Moments, merge_across_processes, moments


@dataclass(frozen=True)
class LayerConversion:
    """What conversion did to one layer.

    ``count`` is how many values each channel was measured on; ``shift`` the mean over channels of
    ``|new mean - old mean| / old deviation``; ``dead`` the channels whose new variance lies under
    the layer's epsilon.
    """

    name: str
    kind: str
    channels: int
    status: Literal["converted", "skipped"] = "skipped"
    reason: str = ""
    count: int = 0
    shift: float = 0.0
    dead: tuple[int, ...] = ()
    inserted: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_batchnorm` measured and did.

    ``change`` is the certificate: the largest absolute difference of any output of the network,
    in eval mode on the first batch, before and after; ``relative`` is that over the largest output.
    """

    layers: tuple[LayerConversion, ...]
    pooling: str
    batches: int = 0
    examples: int = 0
    change: float = 0.0
    relative: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def converted(self) -> int:
        """How many layers were converted."""
        return sum(layer.status == "converted" for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain dictionaries, lists, strings and numbers."""
        return asdict(self) | {"converted": self.converted}

    def __str__(self) -> str:
        lines = [
            f"{self.converted} of {len(self.layers)} batch norms converted on {self.examples} "
            f"examples; largest output change {self.change:.1e} ({self.relative:.1e} relative)"
        ]
        lines += [f"note: {note}" for note in self.notes]
        for layer in self.layers:
            said = layer.reason or f"shift {layer.shift:.2f}, {layer.count} values a channel"
            dead = f", {len(layer.dead)} dead channels" if layer.dead else ""
            odd = "".join(f"; {note}" for note in layer.notes)
            what = f"{layer.name} ({layer.kind}, {layer.channels})"
            lines.append(f"  {layer.status:9} {what}: {said}{dead}{odd}")
        return "\n".join(lines)


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
    (Ha, Jeong and Lee, 2024).

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
        ValueError: If there are no batches, if no input is found in one, or if the network holds
            fused layers of quantisation-aware training.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    >>> x = torch.randn(64, 3)
    >>> before = net(x)
    >>> report = convert_batchnorm(net, x.split(16))
    >>> report.converted, torch.allclose(net(x), before, atol=1e-5)
    (1, True)
    """
    model = unwrapped(model)
    _refuse_fused(model)
    norms = dict(batchnorms(model))
    if not norms and watch is None:
        return ConversionReport((), pooling, notes=(_no_norms(model),))
    run = forward or (lambda net, batch: net(placed(find_input(batch), net)))
    seen: dict[str, list[Moments]] = {name: [] for name in norms}
    first: tuple[Any, list[Tensor]] | None = None
    number = examples = 0
    with torch.no_grad(), _measuring(model, norms, seen, pooling):
        for batch in batches:
            number += 1
            output = run(model, batch)
            found = list(tensors(output))
            examples += len(found[0]) if found and found[0].dim() else 0
            if first is None and any(t.numel() for t in found):
                first = (batch, [t.clone() for t in found])
            if watch is not None:
                watch(batch, output)
    if first is None:
        raise ValueError("conversion needs at least one batch with an example and got none")
    reasons = _reasons(norms)
    layers = tuple(
        _convert(
            name, norm, _pooled(norm, seen[name], pooling), reasons[name], missing_affine, number
        )
        for name, norm in norms.items()
    )
    with torch.no_grad(), in_eval(model):
        after = list(tensors(run(model, first[0])))
    change, relative = _certificate(first[1], after)
    notes = () if norms else (_no_norms(model),)
    return ConversionReport(layers, pooling, number, examples, change, relative, notes)


def _convert(
    name: str,
    norm: _BatchNorm,
    new: Moments,
    reason: str,
    missing_affine: str,
    batches: int,
) -> LayerConversion:
    """Re-express one layer in new statistics, or say why not."""
    layer = LayerConversion(
        name, type(norm).__name__, norm.num_features, count=new.count, notes=tuple(oddities(norm))
    )
    lacks = norm.weight is None or norm.bias is None
    if not reason and new.count == 0:
        reason = "no value reached it during the pass: it is unused, or called as a function"
    if not reason and lacks and missing_affine == "skip":
        reason = "has no weight or bias to absorb the change (affine=False)"
    if reason:
        return replace(layer, reason=reason)
    with torch.no_grad():
        mean, variance = norm.running_mean.double(), norm.running_var.double()
        weight = torch.ones_like(mean) if norm.weight is None else norm.weight.double()
        bias = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
        deviation = (variance + norm.eps).sqrt()
        fresh = {
            "weight": weight * (new.variance() + norm.eps).sqrt() / deviation,
            "bias": bias + weight * (new.mean - mean) / deviation,
            "running_mean": new.mean,
            "running_var": new.variance(),
        }
        fits = {key: value.to(norm.running_mean.dtype) for key, value in fresh.items()}
        if not all(bool(value.isfinite().all()) for value in fits.values()):
            return replace(layer, reason="its inputs are not finite, or overflow its precision")
        _write(norm, fits, batches)
    return replace(
        layer,
        status="converted",
        shift=float(((new.mean - mean).abs() / deviation).mean()),
        dead=tuple((new.variance() < norm.eps).nonzero().flatten().tolist()),
        inserted=lacks,
        notes=layer.notes + (("weight or bias inserted",) if lacks else ()),
    )


def _write(norm: _BatchNorm, values: dict[str, Tensor], batches: int) -> None:
    for key, value in values.items():
        if getattr(norm, key) is None:
            setattr(norm, key, nn.Parameter(value))
        else:
            getattr(norm, key).copy_(value)
    norm.affine = True
    if norm.momentum is None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.fill_(batches)  # the cumulative average goes on from here


def _reasons(norms: Mapping[str, _BatchNorm]) -> dict[str, str]:
    """Say for each layer why it cannot be converted; empty where it can."""
    owners: dict[int, str] = {}
    reasons = {}
    for name, norm in norms.items():
        own = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        tied = [owners[id(t)] for t in own if t is not None and id(t) in owners]
        reason = ""
        if norm.running_mean is None:
            reason = "keeps no running statistics: eval mode normalises by the batch already"
        elif is_parametrized(norm):
            reason = "its weight is parametrised: remove the parametrisation first"
        elif tied:
            reason = f"shares tensors with {tied[0]}, so both cannot be exact"
        for tensor in own:
            if tensor is not None:
                owners.setdefault(id(tensor), name)
        reasons[name] = reason
    for name, reason in list(reasons.items()):
        if reason.startswith("shares tensors with "):
            partner = reason.removeprefix("shares tensors with ").split(",")[0]
            reasons[partner] = f"shares tensors with {name}, so both cannot be exact"
    return reasons


def _pooled(norm: _BatchNorm, parts: Sequence[Moments], pooling: str) -> Moments:
    """Pool what a layer saw, here and in every other process."""
    if pooling == "batch":
        parts = _averaged(parts)
    none = torch.zeros(norm.num_features, dtype=torch.float64)
    if norm.running_mean is not None:
        none = none.to(norm.running_mean.device)
    pooled = Moments(0, none, none)
    for part in parts:
        pooled = pooled.merge(part)
    return merge_across_processes(pooled)


def _averaged(parts: Sequence[Moments]) -> list[Moments]:
    """Average batch means and unbiased batch variances; one-value batches have no variance."""
    full = [part for part in parts if part.count > 1] or list(parts)
    if not full:
        return []
    count = sum(part.count for part in full)
    mean = torch.stack([part.mean for part in full]).mean(0)
    variance = torch.stack([part.variance() for part in full]).mean(0)
    return [Moments(count, mean, variance * max(count - 1, 1))]


@contextmanager
def _measuring(
    model: nn.Module,
    norms: Mapping[str, _BatchNorm],
    seen: dict[str, list[Moments]],
    pooling: str,
) -> Iterator[None]:
    """Measure the input of every layer while the network runs in eval mode."""

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        one = moments(args[0] if args else kwargs["input"])
        if pooling == "exact" and seen[name]:
            seen[name][0] = seen[name][0].merge(one)
        elif one.count:
            seen[name].append(one)

    def hook(name: str) -> Callable[..., None]:
        return lambda _module, args, kwargs: look(name, args, kwargs)

    hooks = [
        norm.register_forward_pre_hook(hook(name), with_kwargs=True) for name, norm in norms.items()
    ]
    try:
        with in_eval(model):
            yield
    finally:
        for one in hooks:
            one.remove()


def _certificate(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[float, float]:
    """Give the largest absolute change of any output, and the same over the largest output."""
    pairs = [
        (a.double(), b.double())
        for a, b in zip(before, after, strict=True)
        if a.is_floating_point()
    ]
    if not pairs:
        return 0.0, 0.0
    change = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(float(a.abs().max()) for a, _ in pairs)
    return change, change / max(largest, torch.finfo(torch.float64).tiny)


def _refuse_fused(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if ".intrinsic." in type(module).__module__ or ".qat." in type(module).__module__:
            raise ValueError(
                f"{name} ({type(module).__name__}) is fused for quantisation, so its batch norm "
                "cannot be converted: convert first, then prepare the network for quantisation"
            )


def _no_norms(model: nn.Module) -> str:
    kinds = other_norms(model)
    has = (
        f"it has {', '.join(kinds)}, which keep no statistics of the data"
        if kinds
        else ("its norms may be folded into other layers or called as functions")
    )
    return f"no batch norm in this network, so there is nothing to convert: {has}"
