"""Edges of images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as images

SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])

WAYS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Where the next place lies along a gradient of 0, 45, 90 and 135 degrees: down, right."""


def canny(x: Tensor, *, sigma: float = 1.4, low: float = 0.4, high: float = 0.8) -> Tensor:
    """Draw the edges of images (N, 3, H, W) from 0 to 1: 1 on an edge, else 0, (N, 1, H, W).

    Grey values are blurred by ``sigma`` pixels; places whose gradient (Sobel's, at most about 4) is
    the largest along itself are edges if it is at least ``high``, or ``low`` and they touch one.
    Source: A Computational Approach to Edge Detection (Canny, 1986).

    >>> x = torch.zeros(1, 3, 5, 6)
    >>> x[..., 3:] = 1
    >>> canny(x, sigma=0.0)[0, 0, 2].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """
    grey: Tensor = images.rgb_to_grayscale(x)
    side = min(2 * math.ceil(3 * sigma) + 1, 2 * min(grey.shape[2:]) - 1)
    if sigma > 0 and side > 1:
        grey = images.gaussian_blur(grey, [side, side], [sigma, sigma])
    kernels = torch.stack([SOBEL, SOBEL.T]).unsqueeze(1).to(grey)
    along = F.conv2d(F.pad(grey, [1, 1, 1, 1], mode="replicate"), kernels)
    strength = along.norm(dim=1, keepdim=True)
    way = (torch.atan2(along[:, 1:], along[:, :1]) / (math.pi / 4)).round().long() % 4
    around = F.pad(strength, [1, 1, 1, 1])
    height, width = strength.shape[2:]
    top = torch.zeros_like(strength, dtype=torch.bool)
    for number, (down, right) in enumerate(WAYS):
        ahead, behind = (
            around[
                :, :, 1 + s * down : 1 + s * down + height, 1 + s * right : 1 + s * right + width
            ]
            for s in (1, -1)
        )
        top |= (way == number) & (strength >= ahead) & (strength > behind)
    weak = (top & (strength >= low)).to(grey)
    edges: Tensor = weak * (strength >= high)
    before = torch.zeros_like(weak)
    while not torch.equal(edges, before):
        before, edges = edges, weak * F.max_pool2d(edges, 3, stride=1, padding=1)
    return edges
