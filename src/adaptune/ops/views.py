"""Images changed at random, where they are already inputs of a network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN, MOVE, SCALE = 15.0, 1 / 16, 0.1
"""The most that a view is turned, in degrees, moved, as a share of its side, and scaled."""

CONTRAST, BRIGHTNESS, SATURATION, NOISE = 0.3, 0.4, 0.5, 0.005
"""The most that contrast and colour differ from 1, and brightness from 0; the noise's deviation."""


def random_view(x: Tensor) -> Tensor:
    """Give one changed copy of each image of a batch (N, C, H, W), each by its own draw.

    It is mirrored or not, turned, moved, scaled, its contrast, brightness and colour changed, and
    noise added, in this order; beyond its edge the edge goes on. Values count as inputs are, in
    deviations of pixels. Source: the kinds of change and how far they go are those of CoTTA (Wang
    et al., 2022), without its changes of hue and gamma, its blur and its bounds of pixels.

    Raises:
        ValueError: If these are no images.

    >>> random_view(torch.zeros(2, 3, 8, 8)).abs().max() < 1
    tensor(True)
    """
    if x.dim() != 4:
        raise ValueError(f"views are of images (N, C, H, W), and these are {tuple(x.shape)}")

    def draw(most: float) -> Tensor:
        return (2 * torch.rand(len(x), device=x.device, dtype=x.dtype) - 1) * most

    angle, scale = draw(TURN * math.pi / 180), 1 + draw(SCALE)
    mirror = draw(1.0).sign()
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    rows = [mirror * cosine, mirror * -sine, draw(2 * MOVE), sine, cosine, draw(2 * MOVE)]
    places = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, places, padding_mode="border", align_corners=False)

    def by(amount: Tensor) -> Tensor:
        return amount.view(-1, 1, 1, 1)

    x = x.mean((1, 2, 3), keepdim=True).lerp(x, by(1 + draw(CONTRAST))) + by(draw(BRIGHTNESS))
    grey = x.mean(1, keepdim=True)
    return grey + (x - grey) * by(1 + draw(SATURATION)) + NOISE * torch.randn_like(x)
