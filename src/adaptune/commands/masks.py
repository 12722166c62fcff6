"""What is written of each image that a network of places is asked about: its mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from lightning_fabric import Fabric
from PIL import Image
from torch import Tensor

from adaptune.commands.predictions import logits_of
from adaptune.data.inputs.image import read_image
from adaptune.data.inputs.scene import SceneInput
from adaptune.networks.network import Network, WholeImage
from adaptune.ops.places import on_grid
from adaptune.types import Unlabeled

ALIGNED = 32
"""Where windows may begin, in pixels: where the grids of nearly all networks agree."""

Span = tuple[int, int]
"""Where something begins, and where it ends."""


class MaskMaker:
    """Gives the class of every pixel of an image, at its own size.

    Of an image that is larger than a ``tile``, windows of that side overlap by ``overlap`` pixels
    or more, and each pixel's class is that of the window in whose middle it lies most. So windows
    give what the whole image would, if they are not scaled, wherever nothing further away than half
    the overlap counts. Without a tile the whole image is scaled to the side of the network's
    inputs, and its answer back.
    """

    def __init__(self, net: Network, fabric: Fabric, *, tile: int = 0, overlap: int = 0) -> None:
        look = net.preprocess
        if not isinstance(look, WholeImage):
            raise ValueError("this network gives one answer an image, not one a place")
        if tile and not 0 <= overlap < tile:
            raise ValueError(f"--overlap must be from 0 to below --tile, {tile}: got {overlap}")
        self.net, self.fabric, self.reader = net, fabric, SceneInput(look)
        self.tile, self.overlap = tile, overlap

    def read(self, file: Path) -> Tensor:
        """Give the mask of a file, uint8 (H, W).

        Raises:
            OSError: If it cannot be read.
        """
        return self(read_image(file))

    def __call__(self, image: Tensor) -> Tensor:
        """Give the mask (H, W), uint8, of an image uint8 (3, H, W)."""
        mask = torch.empty(image.shape[1:], dtype=torch.uint8)
        for (top, bottom), (first, last) in windows(image.shape[1], self.tile, self.overlap):
            for (left, right), (start, end) in windows(image.shape[2], self.tile, self.overlap):
                answer = self._answer(image[:, top:bottom, left:right])
                own = answer[first - top : last - top, start - left : end - left]
                mask[first:last, start:end] = own
        return mask

    def _answer(self, image: Tensor) -> Tensor:
        x, none = self.reader.given(image)[None], torch.zeros(1, dtype=torch.int64)
        logits = logits_of(self.net, Unlabeled(x, none, none), self.fabric)
        return on_grid(logits, image.shape[1:]).argmax(1)[0].to(torch.uint8).cpu()


def windows(size: int, tile: int, overlap: int) -> Iterator[tuple[Span, Span]]:
    """Cover an axis by windows: where each lies, and for what part of the axis it answers.

    Windows are of one size, ``tile``, and overlap by ``overlap`` at least; one is the whole axis if
    that is no longer, or ``tile`` is 0.

    >>> list(windows(10, 0, 0)), list(windows(160, 96, 16))
    ([((0, 10), (0, 10))], [((0, 96), (0, 80)), ((64, 160), (80, 160))])
    """
    if not tile or size <= tile:
        yield (0, size), (0, size)
        return
    step = tile - overlap
    step = step // ALIGNED * ALIGNED or step
    starts = [*range(0, size - tile, step), size - tile]
    seams = [0, *((one + tile + other) // 2 for one, other in pairwise(starts)), size]
    for start, own in zip(starts, pairwise(seams), strict=True):
        yield (start, start + tile), own


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


def save_mask(mask: Tensor, file: Path) -> None:
    """Write a mask (H, W) uint8 as a PNG of indices with a palette.

    Raises:
        OSError: If it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = mask.shape
    image = Image.frombytes("P", (width, height), mask.numpy().tobytes())
    image.putpalette(palette(256))
    image.save(file, "PNG")


def places_of(files: Sequence[Path], given: Sequence[str], out: Path) -> list[Path]:
    """Say where the mask of each file goes: where it lies in a folder that was given, as a PNG.

    Raises:
        ValueError: If two would go to one place, or one to where an image is.

    >>> places_of([Path("a/b/1.jpg")], ["a"], Path("out"))
    [PosixPath('out/b/1.png')]
    """
    roots = [Path(one) for one in given]
    places = []
    for file in files:
        root = next((one for one in roots if one in file.parents), file.parent)
        places.append((out / file.relative_to(root)).with_suffix(".png"))
    taken: dict[Path, Path] = {}
    images = {file.absolute() for file in files}
    for file, place in zip(files, places, strict=True):
        if place.absolute() in images:
            raise ValueError(f"the mask of {file} would take the place of an image: choose --out")
        if taken.setdefault(place, file) is not file:
            raise ValueError(
                f"the masks of {taken[place]} and {file} would both be {place}: predict them "
                "apart, each into a folder of its own"
            )
    return places
