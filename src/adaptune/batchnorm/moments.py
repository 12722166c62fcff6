"""Means and variances of channels, pooled exactly over any number of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptune.runtime.devices import exact
from adaptune.runtime.processes import gather_each

TILE = 1 << 13
"""Rows whose channels lie side by side that are measured at a time, in the cache."""

SEGMENT = 1 << 12
"""Neighbours added up in the input's own precision; what they give adds up in float64."""

DISTANT = 1e4
"""Squared mean over variance above which the mean is added up in float64."""

CANCELLATION = 10.0
"""Squared mean over variance above which sums of squares lose too many digits."""


@dataclass(frozen=True)
class Moments:
    """How many values a channel had, their mean and their summed squared deviations (float64)."""

    count: int
    mean: Tensor
    deviations: Tensor

    def merge(self, other: Moments) -> Moments:
        """Pool with the moments of other values, as if all had been seen at once.

        >>> a, b = torch.randn(5, 3), torch.randn(7, 3)
        >>> pool_moments = moments(a).merge(moments(b))
        >>> torch.allclose(pool_moments.variance(), torch.cat([a, b]).double().var(0))
        True
        """
        return pool_moments([self, other])

    def variance(self) -> Tensor:
        """Give the unbiased variance, as batch norm's running variance has it; 0 for one value."""
        return self.deviations / max(self.count - 1, 1)


def pool_moments(parts: Sequence[Moments]) -> Moments:
    """Pool the moments of several sets of values, as if all had been seen at once.

    Source: Chan, Golub and LeVeque, 1983.

    >>> x = torch.randn(9, 2)
    >>> parts = [moments(part) for part in x.split(4)]
    >>> torch.allclose(pool_moments(parts).variance(), x.double().var(0))
    True
    """
    total = sum(part.count for part in parts)
    if total == 0 or len(parts) == 1:
        return parts[0]
    means = torch.stack([part.mean for part in parts])
    counts = torch.tensor([part.count for part in parts]).to(means)
    mean = counts @ means / total
    inside = torch.stack([part.deviations for part in parts]).sum(0)
    return Moments(total, mean, inside + counts @ (means - mean).square_())


def moments(x: Tensor) -> Moments:
    """Measure every channel of ``x``, (N, C) or (N, C, ...), over all other dimensions.

    Half precision is measured in float32, sums are added up in float64. Zero rows give count 0.

    >>> moments(torch.tensor([[1.0], [3.0]])).mean
    tensor([2.], dtype=torch.float64)
    """
    x = exact(x)
    channels = x.shape[1]
    count = x.numel() // channels if channels else 0
    if count == 0:
        none = torch.zeros(channels, dtype=torch.float64, device=x.device)
        return Moments(0, none, none)
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if x.device.type != "cpu":
        around = [dim for dim in range(x.dim()) if dim != 1]
        variance, mean = (one.double() for one in torch.var_mean(x, around, correction=0))
    elif x.dim() > 2 and x.is_contiguous():
        mean, variance = _by_row(x)
    else:
        mean, variance = _by_tile(x)
    low, high = torch.aminmax(DISTANT * variance - mean.square())
    if not (low >= 0 and high < math.inf):
        # A square overflows, or float32 does not tell a mean from its neighbours.
        far = (mean.square() > DISTANT * variance) | ~variance.isfinite()
        rows = x.transpose(0, 1)[far].flatten(1).double()
        mean[far], variance[far] = rows.mean(1), rows.var(1, correction=0)
    return Moments(count, mean, variance * count)


def as_one_value(batch: Moments) -> Moments:
    """Make a batch one value to average: its mean, its unbiased variance, how many it measured.

    A batch of one value a channel has no variance and counts for nothing.

    >>> few, many = moments(torch.zeros(2, 1)), moments(torch.ones(8, 1))
    >>> from_values(as_one_value(few).merge(as_one_value(many))).mean
    tensor([0.5000], dtype=torch.float64)
    """
    value = torch.cat([batch.mean, batch.variance(), torch.full_like(batch.mean, batch.count)])
    return Moments(int(batch.count > 1), value, torch.zeros_like(value))


def from_values(average: Moments) -> Moments:
    """Read the average of batches that `as_one_value` made; count 0 if none had a variance."""
    mean, variance, values = average.mean.chunk(3)
    count = round(float(values[0]) * average.count)
    return Moments(count, mean, variance * max(count - 1, 1))


def _by_row(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give means and variances of channels whose values lie side by side, from sums and squares."""
    mean, variance = _about_zero(x)
    far = mean.square() > CANCELLATION * variance
    if bool(far.any()):
        centre = mean[far].to(x.dtype)
        some = x.index_select(1, far.nonzero()[:, 0])
        moved, variance[far] = _about_zero(some - centre.view(1, -1, *[1] * (x.dim() - 2)))
        mean[far] = centre.double() + moved
    return mean, variance


def _about_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give means and variances of channels whose squared means are not far above the variances."""
    channels = x.shape[1]
    parts = torch.split(x.view(x.shape[0] * channels, -1), SEGMENT, dim=1)
    sums = torch.stack([part.sum(1) for part in parts]).double()
    norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts]).double()
    count = x.numel() // channels
    mean = sums.view(-1, channels).sum(0) / count
    return mean, norms.square_().view(-1, channels).sum(0) / count - mean.square()


def _by_tile(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give means and variances of channels that lie side by side, by batch norm's own kernel."""
    tiles = torch.split(x.movedim(1, -1).reshape(-1, x.shape[1]), TILE)
    parts = [torch.batch_norm_update_stats(tile, None, None, 0.0) for tile in tiles]
    means, variances = (torch.stack(part).double() for part in zip(*parts, strict=True))
    if len(tiles) == 1:
        return means[0], variances[0]
    shares = means.new_tensor([len(tile) for tile in tiles]) / (x.numel() // x.shape[1])
    mean = shares @ means
    return mean, shares @ variances.add_((means - mean).square_())


def merge_across_processes(own: Moments) -> Moments:
    """Pool with what every other process measured, by count; the same answer on each of them.

    Without `torch.distributed` this is what was given. A process that saw nothing counts for
    nothing. All processes must call it, in the same order of layers.

    >>> merge_across_processes(moments(torch.zeros(4, 2))).count
    4
    """
    parts = gather_each(
        torch.stack([torch.full_like(own.mean, own.count), own.mean, own.deviations])
    )
    if len(parts) == 1 or not own.mean.numel():
        return own
    return pool_moments([Moments(int(part[0, 0]), part[1], part[2]) for part in parts])
