"""How two domains of a step go through batch norms: together, in turn, or statistics apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.batchnorm.layers import batchnorms

Passes = Literal["joint", "separate", "apart"]
"""How a source and a target go through a body whose batch norms are in train mode.

- ``joint``: in one pass. Both are normalised by what they have together, and running statistics
  follow that.
- ``separate``: in a pass each, the target's last. Each is normalised by its own batch, and running
  statistics follow both in turn.
- ``apart``: in a pass each, and running statistics of the source are others than the network's,
  which follow the target alone.
"""

Around = Callable[[int], AbstractContextManager[object]]
"""Gives what surrounds a pass, whose first so many rows are the source's."""


class DomainPasses(nn.Module):
    """Take a source and a target through a body as ``passes`` says, batch norms as they are.

    Of a network what predicts is the body with its own running statistics: under ``apart`` the
    target's. Those of the source are kept here, and begin as the body's (`start`).
    Weights and biases of batch norms are shared. Where batch norms are held, all ways are one.
    Source of ``apart``: Domain-Specific Batch Normalization (Chang et al., 2019), where each domain
    has weights and biases of its own too.

    Args:
        body: Whose batch norms they are.
        passes: Which way.

    Raises:
        ValueError: If there is no such way.

    >>> norm, source, target = nn.BatchNorm1d(1), torch.zeros(2, 1), torch.ones(2, 1)
    >>> [one.mean().round().item() for one in DomainPasses(norm, "joint")(norm, source, target)]
    [-1.0, 1.0]
    >>> [one.mean().item() for one in DomainPasses(norm, "separate")(norm, source, target)]
    [0.0, 0.0]
    """

    def __init__(self, body: nn.Module, passes: Passes) -> None:
        super().__init__()
        if passes not in get_args(Passes):
            told = ", ".join(get_args(Passes))
            raise ValueError(f"two domains pass in one of these ways: {told}; got {passes}")
        self.passes = passes
        self.start(body)

    def start(self, body: nn.Module) -> None:
        """Let the source's statistics begin as the body's are now, as after a conversion."""
        norms = (norm for _, norm in batchnorms(body))
        self.kept = nn.ModuleList(map(statistics_of, norms) if self.passes == "apart" else ())

    def forward(
        self, body: nn.Module, source: Tensor, target: Tensor, *, around: Around = nullcontext
    ) -> tuple[Tensor, Tensor]:
        """Give the features of both; ``source`` is (N, ...) and ``target`` (M, ...)."""
        if self.passes == "joint":
            return self._together(body, source, target, around)
        ours = self.source(body, source, target, around=around)
        return ours, self.target(body, target, source, around=around)

    def source(
        self, body: nn.Module, source: Tensor, target: Tensor, *, around: Around = nullcontext
    ) -> Tensor:
        """Give the features of the source; the target goes along in a joint pass alone."""
        if self.passes == "joint":
            return self._together(body, source, target, around)[0]
        with self._statistics_of_source(body), around(len(source)):
            return body(source)  # type: ignore[no-any-return]

    def target(
        self, body: nn.Module, target: Tensor, source: Tensor, *, around: Around = nullcontext
    ) -> Tensor:
        """Give the features of the target; the source goes along in a joint pass alone."""
        if self.passes == "joint":
            return self._together(body, source, target, around)[1]
        with around(0):
            return body(target)  # type: ignore[no-any-return]

    def _together(
        self, body: nn.Module, source: Tensor, target: Tensor, around: Around
    ) -> tuple[Tensor, Tensor]:
        count = len(source)
        with around(count):
            features = body(torch.cat([source, target]))
        return features[:count], features[count:]

    @contextmanager
    def _statistics_of_source(self, body: nn.Module) -> Iterator[None]:
        """Put the source's statistics in the place of the body's, if they are kept apart."""
        norms = [norm for _, norm in batchnorms(body)] if self.passes == "apart" else []
        own = [dict(norm._buffers) for norm in norms]
        try:
            for norm, kept in zip(norms, self.kept, strict=True):
                norm._buffers.update(kept._buffers)
            yield
        finally:
            for norm, buffers in zip(norms, own, strict=True):
                norm._buffers.update(buffers)


def statistics_of(norm: _BatchNorm) -> nn.BatchNorm1d:
    """Give a layer that is there for its running statistics alone: a copy of those of ``norm``.

    >>> statistics_of(nn.BatchNorm2d(1)).running_var
    tensor([1.])
    """
    kept = nn.BatchNorm1d(norm.num_features, affine=False)
    for name in kept._buffers:
        value = norm._buffers[name]
        kept._buffers[name] = None if value is None else value.clone()
    return kept
