"""Means and variances of channels, pooled exactly over any number of batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 1 << 18
"""Elements squared at a time on the CPU: one tile stays in the cache."""

CANCELLATION = 100.0
"""Squared mean over variance above which sums of squares lose too many digits."""


@dataclass(frozen=True)
class Moments:
    """How many values a channel had, their mean and their summed squared deviations (float64)."""

    count: int
    mean: Tensor
    deviations: Tensor

    def merge(self, other: Moments) -> Moments:
        """Pool with the moments of other values, as if all had been seen at once.

        Source: Chan, Golub and LeVeque, 1983.

        >>> a, b = torch.randn(5, 3), torch.randn(7, 3)
        >>> pooled = moments(a).merge(moments(b))
        >>> torch.allclose(pooled.variance(), torch.cat([a, b]).double().var(0))
        True
        """
        count = self.count + other.count
        if count == 0:
            return self
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.deviations + other.deviations + gap.square() * (self.count * other.count / count),
        )

    def variance(self) -> Tensor:
        """Give the unbiased variance, as batch norm's running variance has it; 0 for one value."""
        return self.deviations / max(self.count - 1, 1)


def moments(x: Tensor) -> Moments:
    """Measure every channel of ``x``, (N, C) or (N, C, ...), over all other dimensions.

    Half precision is measured in float32, sums are added up in float64. Zero rows give count 0.

    >>> moments(torch.tensor([[1.0], [3.0]])).mean
    tensor([2.], dtype=torch.float64)
    """
    channels = x.shape[1]
    count = x.numel() // channels if channels else 0
    if count == 0:
        none = torch.zeros(channels, dtype=torch.float64, device=x.device)
        return Moments(0, none, none)
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    mean, square = (total / count for total in _sums(x))
    variance = square - mean.square()
    if bool((mean.square() > CANCELLATION * variance).any()):
        rows = x.transpose(0, 1).reshape(channels, -1).double()
        mean = rows.mean(1)
        variance = (rows - mean[:, None]).square_().mean(1)
    return Moments(count, mean, variance * count)


def _sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the values and their squares in each channel, reading each value once or twice."""
    channels = x.shape[1]
    if x.dim() > 2 and x.is_contiguous():
        rows = x.reshape(x.shape[0] * channels, -1)
        norms = torch.linalg.vector_norm(rows, dim=1).double().square()
        sums = rows.sum(1).double()
        return sums.view(-1, channels).sum(0), norms.view(-1, channels).sum(0)
    rows = x.movedim(1, -1).reshape(-1, channels)
    if rows.device.type != "cpu":
        return rows.sum(0, dtype=torch.float64), rows.square().sum(0, dtype=torch.float64)
    tiles = rows.split(max(1, TILE // channels))
    room = torch.empty_like(tiles[0])
    sums, squares = [], []
    for tile in tiles:
        sums.append(tile.sum(0))
        squares.append(torch.mul(tile, tile, out=room[: len(tile)]).sum(0))
    return torch.stack(sums).double().sum(0), torch.stack(squares).double().sum(0)


def merge_across_processes(own: Moments) -> Moments:
    """Pool with what every other process measured, by count; the same answer on each of them.

    Without `torch.distributed` this is what was given. A process that saw nothing counts for
    nothing. All processes must call it, in the same order of layers.

    >>> merge_across_processes(moments(torch.zeros(4, 2))).count
    4
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return own
    packed = torch.stack([torch.full_like(own.mean, own.count), own.mean, own.deviations])
    everyone = [torch.empty_like(packed) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, packed)
    parts = [Moments(int(p[0, 0]), p[1], p[2]) for p in everyone]
    pooled = parts[0]
    for part in parts[1:]:
        pooled = pooled.merge(part)
    return pooled
