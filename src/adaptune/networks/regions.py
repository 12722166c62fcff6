"""Regions of images, which something else found: superpixels, or what Segment Anything cuts out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Regions = Callable[[Tensor], Tensor]
"""Gives each place of images (N, 3, H, W) its region's number, int64 (N, h, w), -1 for none."""

SEGMENTS, SIDE = 50, 128
"""How many superpixels an image is cut into, and how large at most the image is then."""


def regions_of(name: str) -> Regions:
    """Give what finds regions by its name: ``slic``, ``grid``, or ``sam:FOLDER``.

    ``slic`` are superpixels of scikit-image, ``grid`` 7 x 7 squares, and ``sam:FOLDER`` masks by a
    model of Segment Anything that transformers' ``save_pretrained`` wrote.

    Raises:
        ValueError: If there is no such name, or what it needs is not there.

    >>> regions_of("grid")(torch.zeros(1, 3, 14, 14))[0, 0].tolist()
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    """
    if name == "grid":
        return grid
    if name == "slic":
        if importlib.util.find_spec("skimage") is None:
            raise ValueError("superpixels need scikit-image: pip install 'adaptune[regions]'")
        return superpixels
    if name.startswith("sam:"):
        return SegmentAnything(Path(name.removeprefix("sam:")))
    raise ValueError(f"regions are found by slic, grid or sam:FOLDER: got {name!r}")


def grid(images: Tensor, *, side: int = 7) -> Tensor:
    """Cut images into ``side`` x ``side`` squares, (N, H, W)."""
    height, width = images.shape[2:]
    down, across = (torch.arange(one) * side // one for one in (height, width))
    cells = (down.unsqueeze(1) * side + across).to(images.device)
    return cells.expand(len(images), height, width)


def superpixels(images: Tensor) -> Tensor:
    """Cut images into superpixels (SLIC), (N, h, w); larger ones than 128 pixels scaled down."""
    from skimage.segmentation import slic

    height, width = images.shape[2:]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = F.interpolate(images.detach().float(), size, mode="bilinear", align_corners=False)
    found = [slic(one, n_segments=SEGMENTS, start_label=0) for one in _pictures(small)]
    return torch.from_numpy(np.stack(found)).long().to(images.device)


class SegmentAnything:
    """Masks of Segment Anything, by transformers, from a local folder; opened when first asked.

    Where masks overlap the later one counts; where there is none a place has no region.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: give one that save_pretrained wrote")
        self.folder = folder

    @cached_property
    def masks(self) -> Callable[[Any], dict[str, Any]]:
        """What gives the masks of a picture."""
        if importlib.util.find_spec("transformers") is None:
            raise ValueError(
                "Segment Anything needs transformers: pip install 'adaptune[transformers]'"
            )
        from transformers import pipeline

        found: Callable[[Any], dict[str, Any]] = pipeline("mask-generation", model=str(self.folder))
        return found

    def __call__(self, images: Tensor) -> Tensor:
        """Give the number of each place's mask, (N, H, W)."""
        from PIL import Image

        found = []
        for picture in _pictures(images.detach().float()):
            number = torch.full(picture.shape[:2], -1)
            shown = Image.fromarray((255 * picture).round().astype(np.uint8))
            for at, mask in enumerate(self.masks(shown)["masks"]):
                number[torch.as_tensor(np.asarray(mask)).bool()] = at
            found.append(number)
        return torch.stack(found).to(images.device)


def _pictures(images: Tensor) -> list[np.ndarray]:
    """Give images as pictures (H, W, 3) from 0 to 1, whatever they were normalised by."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    shown = (images - low) / (high - low).clamp_min(1e-6)
    return list(shown.movedim(1, -1).cpu().numpy())
