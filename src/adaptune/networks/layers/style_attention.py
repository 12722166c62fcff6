"""Gates on channels that read an image's style."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from adaptune.networks.heads import Head
from adaptune.networks.stages import stage_maps
from adaptune.ops.style import channel_axis

H = TypeVar("H", bound=Head)

REDUCTION = 16
"""How many times as many numbers describe the style as there are units between."""


class StyleAttention(nn.Module):
    """Maps of a block, each channel weighed by what the image's style says of all of them.

    ``maps * (1 + gate) / 1.5``, where the gates are the sigmoid of two layers, a ReLU between them,
    that read the mean and the variance of every channel over its places. The second layer is zero
    at first, so every gate is a half and nothing changes. Source: the channel-wise style attention
    of DLIF, Yang et al., 2024, by its figure; its code leaves out the sum. The factor is ours.

    >>> StyleAttention(nn.Identity(), 8)(torch.ones(1, 8, 2, 2)).unique().tolist()
    [1.0]
    """

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        self.block, self.width = block, width
        units = max(1, 2 * width // REDUCTION)
        self.read = nn.Linear(2 * width, units, bias=False)
        self.gate = nn.Linear(units, width, bias=False)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Give the block's maps, weighed.

        Raises:
            ValueError: If the block gives features without places.
        """
        maps: Tensor = self.block(x)
        axis = channel_axis(maps, self.width) % maps.dim()
        flat = maps.movedim(axis, 1).flatten(2)
        told = torch.cat([flat.mean(2), flat.var(2, correction=0)], 1)
        gates: Tensor = self.gate(self.read(told).relu()).sigmoid()
        shape = [one if at in (0, axis) else 1 for at, one in enumerate(maps.shape)]
        return maps * ((1 + gates) / 1.5).view(shape)


def style_attention(body: nn.Module, head: H) -> tuple[nn.Module, H]:
    """Put `StyleAttention` around the end of every stage (`stage_maps`): a surgery.

    >>> body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1, stride=2))
    >>> [type(one).__name__ for one in style_attention(body, nn.Linear(5, 2))[0]]
    ['StyleAttention', 'StyleAttention']
    """
    for name, width in stage_maps(body):
        block = body.get_submodule(name)
        made = StyleAttention(block, width).train(block.training)
        for layer in (made.read, made.gate):
            layer.to(next(body.parameters()))
        body.set_submodule(name, made)
    return body, head
