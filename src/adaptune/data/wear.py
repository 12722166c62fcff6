"""Pictures as they look after some wear: blurred, noisy or pale."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

BLUR = 1.7
"""The deviation of the blur in pixels of 72."""

NOISE = 28.0
"""The deviation of the noise in steps of 255."""

CONTRAST = 0.35
"""The share of the contrast that a pale picture keeps."""


def worn(pixels: Tensor, name: str) -> Image.Image:
    """Blur a picture, add noise to it, or make it pale: what it is, a hash of its name decides.

    ``pixels`` are uint8 (3, H, W). The same name gives the same picture on every machine; the hash
    is not that by which data are split, so a test set has pictures of every kind.

    >>> import torch
    >>> grey = torch.full((3, 72, 72), 128, dtype=torch.uint8)
    >>> worn(grey, "1F603").size
    (72, 72)
    """
    number = int.from_bytes(hashlib.sha256(f"worn {name}".encode()).digest()[:8], "big")
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return WEAR[number % len(WEAR)](picture, number)


def _blurred(picture: Image.Image, number: int) -> Image.Image:
    del number
    return picture.filter(ImageFilter.GaussianBlur(BLUR))


def _noisy(picture: Image.Image, number: int) -> Image.Image:
    pixels = np.asarray(picture, dtype=float)
    noise = np.random.default_rng(number).normal(0.0, NOISE, pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))


def _pale(picture: Image.Image, number: int) -> Image.Image:
    del number
    return ImageEnhance.Contrast(picture).enhance(CONTRAST)


WEAR: tuple[Callable[[Image.Image, int], Image.Image], ...] = (_blurred, _noisy, _pale)
