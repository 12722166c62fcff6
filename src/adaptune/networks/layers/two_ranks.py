"""Pairs of adapters beside a layer, one of low and one of high rank, that fold into its weight."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.layers.lora import adaptable_layers


class TwoRanks(nn.Module):
    """A layer of weight W that computes as one of ``W + a U D + b V E``.

    A kernel (O, I, h, w) counts as (O, I h w). U D is of the ``low`` rank, V E of the ``high`` one,
    neither above what W can have; D and E are normal with deviation 1 / rank^2, U and V zero, so at
    first nothing changes. a and b are ``scales`` (2,). Source: ViDA (Liu et al., 2024), of linear
    layers.

    >>> layer = nn.Conv2d(4, 6, 1, stride=2)
    >>> x = torch.randn(2, 4, 8, 8)
    >>> torch.equal(TwoRanks(layer, low=1, high=128)(x), layer(x))
    True
    """

    scales: Tensor

    def __init__(self, base: nn.Linear | nn.Conv2d, *, low: int, high: int, seed: int = 0) -> None:
        super().__init__()
        self.base = base
        weight, random = base.weight.detach(), torch.Generator().manual_seed(seed)
        wide, deep = weight.flatten(1).shape
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for rank in (min(low, wide, deep), min(high, wide, deep)):
            drawn = torch.randn(rank, deep, generator=random) / rank**2
            self.down.append(nn.Parameter(drawn.to(weight)))
            self.up.append(nn.Parameter(weight.new_zeros(wide, rank)))
        self.register_buffer("scales", weight.new_ones(2))

    def forward(self, x: Tensor) -> Tensor:
        """Compute as the layer of the adapted weight."""
        weight, base = self.base.weight + self.get_delta_weight(), self.base
        if isinstance(base, nn.Linear):
            return F.linear(x, weight, base.bias)
        return F.conv2d(x, weight, base.bias, base.stride, base.padding)

    def adapters(self) -> Iterator[nn.Parameter]:
        """Give the parameters of both adapters."""
        yield from self.down
        yield from self.up

    def get_delta_weight(self) -> Tensor:
        """Give what both adapters add to the weight."""
        parts = zip(self.scales, self.up, self.down, strict=True)
        pair = [scale * up @ down for scale, up, down in parts]
        both: Tensor = pair[0] + pair[1]
        return both.view_as(self.base.weight)

    @torch.no_grad()
    def merge(self) -> None:
        """Add to the layer's own weight what the adapters add."""
        self.base.weight.add_(self.get_delta_weight())

    def get_base_layer(self) -> nn.Module:
        """Give the plain layer."""
        return self.base


def add_two_ranks(body: nn.Module, *, low: int, high: int) -> list[str]:
    """Put a pair of adapters beside every layer that can have one; name the layers.

    These are linear layers, and convolutions of one group without dilation. What is drawn is drawn
    the same each time.

    Raises:
        ValueError: If there is no such layer.

    >>> add_two_ranks(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), low=1, high=2)
    ['0']
    """
    names = adaptable_layers(body)
    for number, name in enumerate(names):
        layer = body.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        body.set_submodule(name, TwoRanks(layer, low=low, high=high, seed=number))
    return names


def pairs_of(model: nn.Module) -> list[TwoRanks]:
    """List the pairs of adapters of a model.

    >>> pairs_of(nn.Linear(2, 2))
    []
    """
    return [one for one in model.modules() if isinstance(one, TwoRanks)]


@torch.no_grad()
def scale_pairs(model: nn.Module, low: Tensor, high: Tensor) -> None:
    """Give all pairs of a model their scales, scalars."""
    for one in pairs_of(model):
        one.scales.copy_(torch.stack([low, high]))
