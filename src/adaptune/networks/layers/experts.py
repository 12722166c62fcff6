"""Frozen experts beside a body, and what aggregates their features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from adaptune.networks.heads import Head
from adaptune.ops.inner_step import stepped, twice_differentiable

MOST_EXPERTS = 100


class Experts(nn.Module):
    """A body with frozen ``count`` others of its architecture, and an aggregator of their features.

    Its features are the body's; experts are asked by `target`. The aggregator is a layer of a
    transformer over the experts' features of an image, whose mean counts: it begins as the plain
    mean of the experts. Batch norms of experts are frozen layers, found by nothing that looks for
    batch norms. ``inner`` is the rate of a step towards the target; it is saved with the weights.
    """

    inner: Tensor

    def __init__(self, body: nn.Module, *, width: int, count: int, heads: int) -> None:
        super().__init__()
        self.body = body
        self.experts = nn.ModuleList(frozen(body) for _ in range(count))
        self.aggregator = nn.TransformerEncoderLayer(
            width,
            math.gcd(width, heads),
            dim_feedforward=2 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        for last in (self.aggregator.self_attn.out_proj, self.aggregator.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("inner", torch.zeros(()))

    def train(self, mode: bool = True) -> Self:
        """Switch modes; experts stay in eval mode."""
        super().train(mode)
        self.experts.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the body's features."""
        return self.body(x)  # type: ignore[no-any-return]

    def target(self, x: Tensor, without: int | None = None) -> Tensor:
        """Give what all experts together, or all but one, say of images: features (N, D)."""
        kept = [one for number, one in enumerate(self.experts) if number != without]
        with torch.no_grad():
            seen = torch.stack([one(x) for one in kept], 1)
        pooled: Tensor = self.aggregator(seen).mean(1)
        return pooled

    @torch.enable_grad()
    def stepped(self, x: Tensor, without: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Give the body's weights after a step towards the experts on images, and how far it was.

        Gradients flow through the step, to what the weights were and to the aggregator.
        """
        wanted = self.target(x, without)
        own = {name: one for name, one in self.body.named_parameters() if one.requires_grad}
        with twice_differentiable():
            apart = F.mse_loss(self.body(x), wanted)
            return stepped(apart, own, self.inner), apart

    def features(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Give the body's features (N, D) of images by other weights."""
        found: Tensor = functional_call(self.body, dict(weights), (x,))
        return found


def frozen(body: nn.Module) -> nn.Module:
    """Copy a body whose batch norms become frozen layers, and of which nothing learns.

    >>> [type(one).__name__ for one in frozen(nn.Sequential(nn.BatchNorm2d(2)))]
    ['FrozenBatchNorm2d']
    """
    from timm.layers import freeze_batch_norm_2d

    copied: nn.Module = freeze_batch_norm_2d(deepcopy(body))
    return copied.eval().requires_grad_(False)


def experts(body: nn.Module, head: Head, *, count: int, heads: int) -> tuple[nn.Module, Head]:
    """Put experts of the body's architecture, and an aggregator, beside it: a surgery.

    Raises:
        ValueError: If there are too few experts to leave one out, or more than can be believed.
    """
    if not (2 <= count <= MOST_EXPERTS and heads > 0):
        raise ValueError(f"2 to {MOST_EXPERTS} experts, and heads above 0: got {count} and {heads}")
    made = Experts(body, width=head.weight.shape[1], count=count, heads=heads)
    made.aggregator.to(head.weight)
    return made.train(body.training), head
