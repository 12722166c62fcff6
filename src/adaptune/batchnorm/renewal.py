"""Running statistics of batch norms, taken anew from other images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.batchnorm.layers import batchnorms, mixed_statistics
from adaptune.batchnorm.moments import Moments, merge_across_processes, moments
from adaptune.batchnorm.precision import RunningMoments
from adaptune.runtime.devices import to_float64
from adaptune.runtime.inputs import in_eval, in_python
from adaptune.runtime.processes import broadcast_from_first, gather_objects


@dataclass(frozen=True)
class Renewal:
    """What `renew_statistics` saw: how many images, and which layers have new statistics."""

    images: int
    layers: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain numbers and words."""
        return {"images": self.images, "layers": list(self.layers)}


def renew_statistics(
    model: nn.Module, opened: Callable[[], Iterable[Tensor]], *, exact: bool = False
) -> Renewal:
    """Give every batch norm the statistics of other images; weights and biases stay.

    So the function changes, other than in conversion. Values are pooled by count in float64, over
    all batches and processes. In one pass a batch is normalised by its own statistics on its way.
    ``exact`` takes the layers in turn, each behind those that are renewed already, in a pass each:
    then batches of any size give what all images at once would, up to rounding.
    Layers that no two values reach keep what they have.

    Args:
        model: Any module; what it is trained by stays as it is.
        opened: Gives the images, in batches (N, ...) on the network's device, as often as asked.
        exact: Whether to take a pass for each layer.

    Raises:
        ValueError: If there are no images.

    >>> norm = nn.BatchNorm1d(1)
    >>> renew_statistics(norm, lambda: torch.tensor([[1.0], [3.0], [8.0]]).split(2)).images
    3
    >>> norm.running_mean, norm.running_var
    (tensor([4.]), tensor([13.]))
    """
    norms = {name: norm for name, norm in batchnorms(model) if norm.running_mean is not None}
    with torch.no_grad(), in_eval(model), in_python():
        if not exact:
            with mixed_statistics(0.0):
                return _renewed(model, opened(), norms)
        order = broadcast_from_first(lambda: _order(model, opened(), norms))
        turns = [_renewed(model, opened(), {name: norms[name]}) for name in order]
    if not turns:
        raise ValueError(NOTHING)
    return Renewal(turns[0].images, tuple(name for turn in turns for name in turn.layers))


NOTHING = (
    "new statistics take at least one image that reaches a batch norm and there was none: give "
    "images of the target"
)


def _order(
    model: nn.Module, batches: Iterable[Tensor], norms: Mapping[str, _BatchNorm]
) -> list[str]:
    """List the layers in the order in which a batch reaches them."""
    reached: list[str] = []
    with _watched(norms, lambda name, _: reached.append(name)):
        for x in islice(batches, 1):
            model(x)
    return list(dict.fromkeys(reached))


def _renewed(
    model: nn.Module, batches: Iterable[Tensor], norms: Mapping[str, _BatchNorm]
) -> Renewal:
    """Measure what reaches some layers, in one pass, and make it their statistics."""
    images = 0
    seen = {name: RunningMoments() for name in norms}
    for name, norm in norms.items():  # so that what nothing reaches counts for nothing
        seen[name].add(moments(to_float64(cast(Tensor, norm.running_mean))[None][:0]))
    with _watched(norms, lambda name, x: seen[name].add(moments(x))):
        for x in batches:
            model(x)
            images += len(x)
    images = sum(gather_objects(images))
    if not images:
        raise ValueError(NOTHING)
    found = {name: merge_across_processes(known.pooled()) for name, known in seen.items()}
    taken = {name: one for name, one in found.items() if one.count > 1}
    for name, one in taken.items():
        _write(name, norms[name], one)
    return Renewal(images, tuple(taken))


def _write(name: str, norm: _BatchNorm, found: Moments) -> None:
    own = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    new = found.mean, found.variance()
    if not all(bool(one.isfinite().all()) for one in new):
        raise ValueError(
            f"what reaches the batch norm {name} is not finite: an image or a weight is broken"
        )
    for to, value in zip(own, new, strict=True):
        to.copy_(value)


@contextmanager
def _watched(
    norms: Mapping[str, _BatchNorm], look: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Show what reaches each layer."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _, args, kwargs: look(name, args[0] if args else next(iter(kwargs.values())))

    hooks = [
        norm.register_forward_pre_hook(hook(name), with_kwargs=True) for name, norm in norms.items()
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
