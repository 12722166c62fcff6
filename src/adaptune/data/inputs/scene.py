"""Whole images as tensors, for networks of places: what moves in an image moves in its mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from adaptune.data.inputs.image import Augment, pixels_in_memory, read_image
from adaptune.data.listing import Example
from adaptune.networks.network import WholeImage
from adaptune.ops.windows import Tiles

AREA, RATIO = (0.25, 1.0), (3 / 4, 4 / 3)
"""Which shares of an image a random part has, and how wide it may be for its height."""


class SceneInput:
    """Whole images as a network of places sees them; ``made`` names them in a cache.

    ``none`` scales images to a square; ``flip`` adds a horizontal flip; ``crop`` scales a random
    part of at least a quarter of the area instead, and flips. A mask is moved by the same draw, and
    scaled without mixing: each place takes the value at its centre.

    With ``tiles`` a mask stays as it is, and the image, if these have a side, becomes its windows,
    each scaled to the square, (W, 3, size, size).
    """

    def __init__(
        self, look: WholeImage, augment: Augment = "none", *, tiles: Tiles | None = None
    ) -> None:
        self.size, self.augment, self.tiles = [look.size, look.size], augment, tiles
        self.mode = InterpolationMode(look.interpolation)
        square = f"{self.mode.value} to {look.size} x {look.size}"
        self.whole = augment == "crop" or bool(tiles and tiles.side)
        self.made = "decoded" if self.whole else square
        self.normalize = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(look.mean), list(look.std)),
            ]
        )

    def fixed(self, example: Example) -> Tensor:
        """Decode an example's file and do what is the same at every visit, uint8 (3, H, W)."""
        image = read_image(example.path, example.part)
        return image if self.whole else self._scaled(image)

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Do the rest by torch's random numbers, with a mask (H, W) too; other labels stay."""
        if self.tiles is not None:
            return self._seen(x, self.tiles), y
        moved, masked = [x], y.dim() == 2
        modes = [self.mode, InterpolationMode.NEAREST_EXACT]
        if masked:
            moved.append(y.unsqueeze(0))
        if self.augment == "crop":
            window = v2.RandomResizedCrop.get_params(x, list(AREA), list(RATIO))
            moved = [
                v2.functional.resized_crop(one, *window, self.size, mode)
                for one, mode in zip(moved, modes, strict=False)
            ]
        elif masked:
            moved[1] = v2.functional.resize(moved[1], self.size, modes[1])
        if self.augment != "none" and torch.rand(()) < 0.5:
            moved = [v2.functional.horizontal_flip(one) for one in moved]
        return self.normalize(moved[0]), moved[1][0] if masked else y

    def given(self, value: Any) -> Tensor:
        """Make an input of what a data set has in memory, as it is: the data set varies its own.

        Images are scaled and normalised, see `pixels_in_memory`; other numbers are inputs already.

        Raises:
            WrongItemError: If it is neither.
            OSError: If the image cannot be decoded.
        """
        x = pixels_in_memory(value)
        if x.dtype != torch.uint8:
            return x
        if self.tiles is not None and self.tiles.side:
            return self._seen(x, self.tiles)
        normal: Tensor = self.normalize(self._scaled(x))
        return normal

    def _seen(self, x: Tensor, tiles: Tiles) -> Tensor:
        """Normalise an image, or what is seen of it in each window."""
        if tiles.side:
            x = torch.stack([self._scaled(one.of(x)) for one in tiles.windows(x.shape[1:])])
        normal: Tensor = self.normalize(x)
        return normal

    def _scaled(self, image: Tensor) -> Tensor:
        scaled: Tensor = v2.functional.resize(image, self.size, self.mode, antialias=True)
        return scaled
