"""Masks as people see them: in colours, beside their image, with what is wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SIDE = 240
"""The longest side of a panel in pixels."""

GAP = 4
WRONG, RIGHT, UNASKED = (214, 40, 40), (226, 232, 240), (255, 255, 255)
"""Colours of what is disagreed on, of what is not, and of what nobody asks."""


def palette(count: int) -> list[int]:
    """Give colours of numbers from 0 on, r, g and b behind each other, as Pascal VOC has them.

    Bits of the number are dealt to the three colours in turn, the lowest to the highest bits.

    >>> palette(3)
    [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    values = []
    for number in range(count):
        for color in range(3):
            bits = ((number >> (3 * at + color) & 1) << (7 - at) for at in range(3))
            values.append(sum(bits))
    return values


def draw_beside(image: Tensor, truth: Tensor, guess: Tensor, classes: int) -> Image.Image:
    """Draw an image (3, H, W), its mask (H, W), what was predicted (H, W), and where these differ.

    All are uint8; what of the mask is no class stays white.

    >>> import torch
    >>> mask = torch.zeros(2, 3, dtype=torch.uint8)
    >>> draw_beside(torch.zeros(3, 2, 3, dtype=torch.uint8), mask, mask, 2).size
    (24, 2)
    """
    height, width = truth.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    photo = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    true, said = (_small(one, size) for one in (truth, guess))
    asked = (true < classes)[..., None]
    panels = [
        np.asarray(photo.resize(size, Image.Resampling.BICUBIC)),
        np.where(asked, _colored(true), UNASKED),
        _colored(said),
        np.where(asked, np.where((true == said)[..., None], RIGHT, WRONG), UNASKED),
    ]
    gap = np.full((size[1], GAP, 3), 255)
    beside = [part for panel in panels for part in (panel, gap)][:-1]
    return Image.fromarray(np.concatenate(beside, 1).astype(np.uint8))


def _small(mask: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(mask.numpy()).resize(size, Image.Resampling.NEAREST))


def _colored(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    colors: NDArray[np.uint8] = np.array(palette(256), np.uint8).reshape(-1, 3)[mask]
    return colors
