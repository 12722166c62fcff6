"""Small scenes: a disc and a square on textured ground, with masks that are exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
NAMES = ("ground", "disc", "square")


def scene(rng: np.random.Generator, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels (48, 48, 3) and a mask of 0 to 2 with a border of 255 around the disc."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = 90 + 25 * np.sin(x * rng.uniform(0.3, 1))[..., None] + rng.normal(0, 12, (*x.shape, 3))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top, left = rng.integers(0, SIDE - 20, 2)
    square = (abs(y - top - 10) < 9) & (abs(x - left - 10) < 9)
    row, column, radius = *rng.integers(10, SIDE - 10, 2), rng.integers(7, 11)
    away = np.hypot(y - row, x - column)
    mask[square], mask[away < radius + 1], mask[away < radius] = 2, 255, 1
    pixels[mask == 1] += [110, -40, -40]
    pixels[mask == 2] += [-40, -40, 110]
    return (pixels + shift * np.array([-1, 0, 1])).clip(0, 255).astype(np.uint8), mask


def draw_scenes(
    folder: Path, count: int, *, seed: int = 0, shift: float = 0.0, name: str = ""
) -> Path:
    """Write ``images`` and ``masks`` below a folder; stems begin with ``name``."""
    rng = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        pixels, mask = scene(rng, shift)
        Image.fromarray(pixels).save(folder / "images" / f"{name}{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}{number:03}.png")
    return folder
