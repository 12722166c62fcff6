"""A linear head that reads standardised features, and folds into a plain one afterwards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.conditioning import Spread, softmax_curvature


class StandardizedLinear(nn.Module):
    """A linear head on standardised features ``(f - mean) / deviation``; it folds into a plain one.

    ``curvature`` bounds the curvature of the softmax loss on these features. Until `standardize`
    or `condition` is called it is an ordinary linear layer that starts at zero.
    """

    mean: Tensor
    deviation: Tensor
    curvature: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.register_buffer("curvature", torch.ones(()))

    def condition(self, spread: Spread, floor: float) -> None:
        """Standardise by the features that were seen, deviations at least ``floor`` of their mean.

        Where several processes run, all must call this; they get the same statistics.

        Raises:
            ValueError: If nothing was seen.
        """
        scatter = spread.pooled(self.mean.device)
        deviation = scatter.deviation(floor)
        curvature = softmax_curvature(scatter, deviation)
        self.standardize(scatter.mean, deviation, curvature)

    @torch.no_grad()
    def standardize(self, mean: Tensor, deviation: Tensor, curvature: float) -> None:
        """Set what the features are standardised by, both (D,), and the curvature's bound."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.curvature.fill_(curvature)

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D): logits (N, K)."""
        return F.linear((features - self.mean) / self.deviation, self.weight, self.bias)

    def fold(self) -> nn.Linear:
        """Give the plain linear layer that computes the same.

        >>> head = StandardizedLinear(2, 3)
        >>> head.standardize(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), 1.0)
        >>> _ = nn.init.normal_(head.weight)
        >>> x = torch.randn(5, 2)
        >>> torch.allclose(head(x), head.fold()(x), atol=1e-6)
        True
        """
        outputs, width = self.weight.shape
        plain = nn.Linear(width, outputs, device=self.weight.device)
        with torch.no_grad():
            weight = self.weight.double() / self.deviation.double()
            plain.weight.copy_(weight)
            plain.bias.copy_(self.bias.double() - weight @ self.mean.double())
        return plain
