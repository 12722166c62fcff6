"""How features are spread, and how fast a linear head may learn on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from adaptune.ops.rows import sample_rows
from adaptune.runtime.devices import exact_device, to_float64
from adaptune.runtime.processes import gather


@dataclass(frozen=True)
class Scatter:
    """Count, mean (D,) and summed outer products of deviations (D, D) of features, in float64."""

    count: int
    mean: Tensor
    products: Tensor

    def merge(self, other: Scatter) -> Scatter:
        """Pool with the scatter of other rows, as if all had been seen at once.

        Source: Chan, Golub and LeVeque, 1983.

        >>> x = torch.randn(9, 2)
        >>> pooled = scatter(x[:4]).merge(scatter(x[4:]))
        >>> torch.allclose(pooled.products, scatter(x).products)
        True
        """
        count = self.count + other.count
        if count == 0:
            return self
        gap = other.mean - self.mean
        return Scatter(
            count,
            self.mean + gap * (other.count / count),
            self.products
            + other.products
            + torch.outer(gap, gap) * (self.count * other.count / count),
        )

    def deviation(self, floor: float) -> Tensor:
        """Give each feature's standard deviation (D,), at least ``floor`` times their average.

        >>> scatter(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).deviation(floor=0.1).tolist()
        [1.0, 0.05]
        """
        deviation = (self.products.diagonal() / max(self.count, 1)).sqrt()
        smallest = floor * float(deviation.mean())
        return deviation.clamp_min(smallest if smallest > 0 else 1.0)


def scatter(features: Tensor) -> Scatter:
    """Measure how features (N, D, ...) are spread, by `sample_rows`; no rows count for nothing.

    >>> scatter(torch.eye(2)).mean.tolist()
    [0.5, 0.5]
    """
    places = to_float64(sample_rows(features))
    mean = places.mean(0) if len(places) else places.new_zeros(places.shape[1])
    centred = places - mean
    return Scatter(len(places), mean, centred.T @ centred)


class Spread:
    """Adds up how features are spread, batch by batch: a ``watch`` for `convert_batchnorm`.

    >>> spread = Spread()
    >>> for features in torch.eye(4).split(2):
    ...     spread(None, features)
    >>> spread.pooled().count
    4
    """

    def __init__(self) -> None:
        self.scatter: Scatter | None = None

    def __call__(self, batch: object, features: Tensor) -> None:
        """Count the features (N, D, ...) of one batch."""
        del batch
        one = scatter(features)
        self.scatter = one if self.scatter is None else self.scatter.merge(one)

    def pooled(self, device: torch.device | None = None) -> Scatter:
        """Pool what all processes saw, by count; all must ask, and get the same, on ``device``.

        On the CPU where that has no float64.

        A process that saw nothing counts for nothing.

        Raises:
            ValueError: If no process saw any features.
        """
        own, device = self.scatter, device and exact_device(device)
        parts = [torch.empty(0)] * 3
        if own is not None:
            parts = [torch.tensor([own.count]), own.mean[None], own.products[None]]
        counts, means, products = (gather(part).to(device) for part in parts)
        if not counts.sum():
            raise ValueError("the head cannot be conditioned: no features were seen")
        scatters = zip(counts.tolist(), means, products, strict=True)
        return reduce(Scatter.merge, (Scatter(*one) for one in scatters))


def largest_eigenvalue(matrix: Tensor, tolerance: float = 1e-6, limit: int = 1000) -> float:
    """Find the largest eigenvalue of a symmetric positive matrix (D, D) by power iteration.

    >>> round(largest_eigenvalue(torch.diag(torch.tensor([1.0, 3.0]))), 4)
    3.0
    """
    size = len(matrix)
    vector = torch.linspace(1.0, 2.0, size, dtype=matrix.dtype, device=matrix.device)
    value = 0.0
    for _ in range(limit):
        image = matrix @ vector
        length = float(image.norm())
        if length == 0.0:
            return 0.0
        vector = image / length
        if abs(length - value) <= tolerance * length:
            return length
        value = length
    return value


def largest_moment(spread: Scatter, deviation: Tensor) -> float:
    """Give the largest eigenvalue of E[z z'], z being features standardised by ``deviation``.

    Times a task's ``curvature`` it bounds that of its loss in the weights of a linear head: the
    Hessian of softmax regression is at most ``0.5 * E[z z']`` times the identity over classes
    (Boehning, 1992).

    >>> spread = scatter(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> round(largest_moment(spread, spread.deviation(floor=0.05)), 3)
    1.0
    """
    moment = spread.products / max(spread.count, 1) / torch.outer(deviation, deviation)
    return largest_eigenvalue(moment)
