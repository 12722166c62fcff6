"""The class of every pixel of an image, at its own size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.data.inputs.image import read_image
from adaptune.data.inputs.scene import SceneInput
from adaptune.engine.evaluate import WINDOWS, logits_of
from adaptune.networks.network import Network, WholeImage
from adaptune.ops.places import best_classes
from adaptune.ops.windows import WHOLE, Tiles, bands
from adaptune.types import Unlabeled

Band = tuple[slice, slice, Tensor]
"""Rows and columns of an image, and outputs (K, rows, columns) there."""


class MaskMaker:
    """Gives the class of every pixel of an image, at its own size, as ``tiles`` say it is seen.

    Images are scaled to the side of the network's inputs, whole or in windows, and its answers
    back, as in tests of a run.
    """

    def __init__(self, net: Network, fabric: Fabric, tiles: Tiles = WHOLE) -> None:
        look = net.preprocess
        if not isinstance(look, WholeImage):
            raise ValueError("this network gives one answer an image, not one a place")
        self.net, self.fabric, self.tiles = net, fabric, tiles
        self.reader = SceneInput(look, tiles=tiles)

    def read(self, file: Path) -> Tensor:
        """Give the mask of a file, uint8 (H, W).

        Raises:
            OSError: If it cannot be read.
        """
        return self(read_image(file))

    def __call__(self, image: Tensor) -> Tensor:
        """Give the mask (H, W), uint8, of an image uint8 (3, H, W)."""
        mask = torch.empty(image.shape[1:], dtype=torch.uint8)
        for rows, columns, logits in self.outputs(image):
            mask[rows, columns] = best_classes(logits)[1].cpu()
        return mask

    def outputs(self, image: Tensor) -> Iterator[Band]:
        """Give outputs for every pixel of an image uint8 (3, H, W) once, some rows at a time."""
        x, none = self.reader.given(image), torch.zeros(1, dtype=torch.int64)
        parts = torch.split(x, WINDOWS) if self.tiles.side else (x[None],)
        said = (logits_of(self.net, Unlabeled(part, none, none), self.fabric) for part in parts)
        beside = torch.cat([one for logits in said for one in logits], -1)
        return bands(beside, image.shape[1:], self.tiles)
