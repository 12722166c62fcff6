"""Heads: what reads features into outputs, by axis 1, and folds into plain layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.conditioning import Spread, largest_moment
from adaptune.runtime.devices import to_float64


class Head(nn.Module, ABC):
    """What reads features (N, D, ...) into outputs (N, K, ...), place by place. Abstract."""

    weight: Tensor
    """What each output asks of features, (K, D)."""

    otherwise: ClassVar[str] = "start from another network"
    """What to do where a method cannot use it."""

    @abstractmethod
    def fold(self) -> Head:
        """Give a head of raw features that computes the same; itself, where it is one."""


def read_linear(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Read features (N, D, ...) by ``weight`` (K, D) and ``bias`` (K,): outputs (N, K, ...).

    >>> read_linear(torch.ones(2, 3, 4, 5), torch.ones(1, 3), None).shape
    torch.Size([2, 1, 4, 5])
    """
    if features.dim() <= 2:
        return F.linear(features, weight, bias)
    return F.linear(features.movedim(1, -1), weight, bias).movedim(-1, 1)


class Readout(nn.Linear, Head):
    """A linear head, of raw features or, once `standardize` is called, of standardised ones.

    These are ``(f - mean) / deviation``, and ``curvature`` bounds the curvature of the task's loss
    on them. Until then these three are None, and it is a linear layer that starts as torch's does.

    >>> head = Readout(2, 3)
    >>> head(torch.ones(5, 2)).shape, head(torch.ones(5, 2, 4, 4)).shape, list(head.state_dict())
    (torch.Size([5, 3]), torch.Size([5, 3, 4, 4]), ['weight', 'bias'])
    """

    mean: Tensor | None
    deviation: Tensor | None
    curvature: Tensor | None

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(width, outputs)
        for name in ("mean", "deviation", "curvature"):
            self.register_buffer(name, None)

    @torch.no_grad()
    def zero_(self) -> Self:
        """Start at zero: every output is 0, whatever is read.

        >>> Readout(2, 3).zero_()(torch.ones(1, 2)).tolist()
        [[0.0, 0.0, 0.0]]
        """
        self.weight.zero_()
        self.bias.zero_()
        return self

    @torch.no_grad()
    def take_raw(self, weight: Tensor, bias: Tensor) -> None:
        """Become the head of raw features with ``weight`` (K, D) and ``bias`` (K,).

        >>> head, x = Readout(2, 3), torch.randn(5, 2)
        >>> raw = Readout(2, 3)
        >>> head.standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), 1.0)
        >>> head.take_raw(raw.weight, raw.bias)
        >>> torch.allclose(head(x), raw(x), atol=1e-6)
        True
        """
        weight, bias = to_float64(weight), to_float64(bias)
        if self.mean is not None and self.deviation is not None:
            bias = bias + weight @ to_float64(self.mean)
            weight = weight * to_float64(self.deviation)
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    @property
    def bound(self) -> float:
        """The bound of the loss's curvature on standardised features; 1 before any is known."""
        return 1.0 if self.curvature is None else float(self.curvature)

    def condition(self, spread: Spread, floor: float, *, curvature: float) -> None:
        """Standardise by the features that were seen, deviations at least ``floor`` of their mean.

        ``curvature`` is the task's. Where several processes run, all must call this; they get the
        same statistics.

        Raises:
            ValueError: If nothing was seen.
        """
        scatter = spread.pooled(self.weight.device)
        deviation = scatter.deviation(floor)
        self.standardize(scatter.mean, deviation, curvature * largest_moment(scatter, deviation))

    @torch.no_grad()
    def standardize(self, mean: Tensor, deviation: Tensor, curvature: float) -> None:
        """Set what the features are standardised by, both (D,), and the curvature's bound."""
        given = {
            "mean": mean,
            "deviation": deviation,
            "curvature": torch.tensor(curvature, dtype=torch.float64),
        }
        for name, value in given.items():
            own = getattr(self, name)
            if own is None:
                self.register_buffer(name, value.detach().clone().to(self.weight))
            else:
                own.copy_(value)

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D, ...): outputs (N, K, ...)."""
        if self.mean is not None and self.deviation is not None:
            shape = (-1,) + (1,) * (features.dim() - 2)
            features = (features - self.mean.view(shape)) / self.deviation.view(shape)
        return read_linear(features, self.weight, self.bias)

    def fold(self) -> Readout:
        """Give the head of raw features that computes the same; itself, where it is one.

        >>> head = Readout(2, 3)
        >>> head.standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), 1.0)
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(head(x), head.fold()(x), atol=1e-6)
        True
        """
        if self.mean is None or self.deviation is None:
            return self
        outputs, width = self.weight.shape
        plain = Readout(width, outputs).to(self.weight.device)
        with torch.no_grad():
            weight = to_float64(self.weight) / to_float64(self.deviation)
            plain.weight.copy_(weight)
            plain.bias.copy_(to_float64(self.bias) - weight @ to_float64(self.mean))
        return plain

    def convolution(self) -> nn.Conv2d:
        """Give the convolution of one pixel that computes the same on features (N, D, h, w).

        >>> head, x = Readout(2, 3), torch.randn(5, 2, 4, 4)
        >>> torch.allclose(head(x), head.convolution()(x), atol=1e-6)
        True
        """
        plain = self.fold()
        outputs, width = plain.weight.shape
        layer = nn.Conv2d(width, outputs, 1).to(plain.weight)
        state = {"weight": plain.weight.detach()[:, :, None, None], "bias": plain.bias.detach()}
        layer.load_state_dict(state)
        return layer


def need_raw(head: Head, who: str) -> nn.Linear:
    """Give a head as the linear layer of raw features that it is.

    Raises:
        ValueError: If it is none; ``who`` says who asks.

    >>> need_raw(Readout(2, 3), "surgery")
    Readout(in_features=2, out_features=3, bias=True)
    """
    if isinstance(head, nn.Linear) and head.fold() is head:
        return head
    raise ValueError(f"{who} needs a linear head of raw features: it is {type(head).__name__}")
