"""Convolutions whose kernels each image makes for itself, beside a block."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head
from adaptune.networks.stages import stage_maps

H = TypeVar("H", bound=Head)

SIDE = 3
"""Pixels of a kernel, across."""


class DynamicKernels(nn.Module):
    """Maps (N, C, h, w) of a block, and what kernels of their own make of them, added.

    Half of the channels are convolved one by one with a 3 x 3 kernel that is an affine function of
    the channel's mean in the image, the others by a convolution that all images share, and a layer
    of 1 x 1 mixes both. It is zero at first, so that nothing changes. Source: the dynamic kernel
    generator of IADG, Zhou et al., 2023, whose two layers from mean to kernel are one here, since
    nothing stands between them, and in whose network it replaces a convolution.

    >>> DynamicKernels(nn.Identity(), 4)(torch.ones(1, 4, 2, 2)).unique()
    tensor([1.], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        self.block, self.own = block, width // 2
        self.kernel = nn.Linear(1, SIDE**2)
        self.shared = nn.Conv2d(width - self.own, width - self.own, SIDE, padding=SIDE // 2)
        self.fuse = nn.Conv2d(width, width, 1)
        for one in self.fuse.parameters():
            nn.init.zeros_(one)

    def forward(self, x: Tensor) -> Tensor:
        """Give the block's maps with what kernels made of them.

        Raises:
            ValueError: If the block gives no maps of as many channels.
        """
        maps: Tensor = self.block(x)
        width = self.fuse.in_channels
        if maps.dim() != 4 or maps.shape[1] != width:
            raise ValueError(
                f"kernels of images need maps (N, {width}, h, w): got {tuple(maps.shape)}; take a "
                "network that convolves images"
            )
        one, other = maps[:, : self.own], maps[:, self.own :]
        more: Tensor = self.fuse(torch.cat([self.dynamic(one), self.shared(other)], 1))
        return maps + more

    def dynamic(self, maps: Tensor) -> Tensor:
        """Convolve every channel of every image (N, C, h, w) with its own kernel."""
        kernels = self.kernel(maps.mean((2, 3)).unsqueeze(2)).view(-1, 1, SIDE, SIDE)
        side_by_side = maps.reshape(1, -1, *maps.shape[2:])
        made = F.conv2d(side_by_side, kernels, padding=SIDE // 2, groups=len(kernels))
        return made.view(maps.shape)


def dynamic_kernels(body: nn.Module, head: H) -> tuple[nn.Module, H]:
    """Put `DynamicKernels` around the end of the last stage but one (`stage_maps`): a surgery.

    Raises:
        ValueError: If there are fewer than two stages.

    >>> body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1, stride=2))
    >>> type(dynamic_kernels(body, nn.Linear(5, 2))[0][0]).__name__
    'DynamicKernels'
    """
    found = stage_maps(body)
    if len(found) < 2:
        raise ValueError(
            "a network whose images make kernels needs two stages or more: take another"
        )
    name, width = found[-2]
    block = body.get_submodule(name)
    made = DynamicKernels(block, width).train(block.training)
    for layer in (made.kernel, made.shared, made.fuse):
        layer.to(next(body.parameters()))
    body.set_submodule(name, made)
    return body, head
