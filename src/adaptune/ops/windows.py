"""Images looked at in windows: where these lie, and what they say of the whole image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.runtime.devices import exact_device

ALIGNED = 32
"""Where windows may begin, in pixels: where the grids of nearly all networks agree."""

AT_ONCE = 2**21
"""Outputs that are held on the grid of an image at a time."""

Span = tuple[int, int]
"""Where something begins, and where it ends."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image that are looked at together, and those that it answers for."""

    rows: Span
    columns: Span
    own_rows: Span
    own_columns: Span

    def of(self, image: Tensor) -> Tensor:
        """Give what it sees of an image (..., H, W)."""
        return image[..., slice(*self.rows), slice(*self.columns)]


@dataclass(frozen=True)
class Tiles:
    """How images are looked at: as a whole, or in windows where a side is longer than ``side``.

    Windows of that side overlap by ``overlap`` pixels or more, and each pixel is answered by the
    window in whose middle it lies most. So windows give what the whole image would, if they are not
    scaled, wherever nothing further away than half the overlap counts. A side of 0 is the whole
    image, whatever its size.
    """

    side: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.side < 0 or (self.side and not 0 <= self.overlap < self.side):
            raise ValueError(
                f"--overlap must be from 0 to below --tile, {self.side}: got {self.overlap}"
            )

    def windows(self, size: Sequence[int]) -> list[Window]:
        """Cover an image of a size (H, W) by windows, all of them equally large.

        >>> len(Tiles(96, 16).windows((160, 96))), len(Tiles().windows((160, 96)))
        (2, 1)
        """
        height, width = size
        return [
            Window(rows, columns, own_rows, own_columns)
            for rows, own_rows in cover_axis(height, self.side, self.overlap)
            for columns, own_columns in cover_axis(width, self.side, self.overlap)
        ]


WHOLE = Tiles()
"""Every image as a whole."""


def cover_axis(size: int, tile: int, overlap: int) -> Iterator[tuple[Span, Span]]:
    """Cover an axis by windows: where each lies, and for what part of the axis it answers.

    Windows are of one size, ``tile``, and overlap by ``overlap`` at least; one is the whole axis if
    that is no longer, or ``tile`` is 0.

    >>> list(cover_axis(10, 0, 0)), list(cover_axis(160, 96, 16))
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


def bands(
    output: Tensor, size: Sequence[int], tiles: Tiles
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Bring outputs of an image to its own grid (H, W), some rows at a time.

    Each comes as rows, columns and outputs (K, rows, columns) as `on_grid` gives them; together
    they are every place once, in memory that does not grow with the image.

    Args:
        output: (K, h, w), or of several windows (K, h, windows * w), side by side in their order.
        size: The image's own.
        tiles: How it was looked at.

    >>> whole = torch.tensor([[[0.0, 4.0]]])
    >>> [band[2].tolist() for band in bands(whole, (1, 4), Tiles())]
    [[[[0.0, 1.0, 3.0, 4.0]]]]
    """
    windows = tiles.windows(size)
    for window, part in zip(windows, output.tensor_split(len(windows), -1), strict=True):
        (top, bottom), (left, right) = window.rows, window.columns
        (first, last), (start, end) = window.own_rows, window.own_columns
        step = max(1, AT_ONCE // (len(output) * (right - left)))
        for begin in range(first, last, step):
            stop = min(last, begin + step)
            own = _rows_of(part, (begin - top, stop - top), (bottom - top, right - left))
            yield slice(begin, stop), slice(start, end), own[..., start - left : end - left]


def _rows_of(output: Tensor, rows: Span, size: tuple[int, int]) -> Tensor:
    """Give some rows of (K, h, w) on a grid of a size: of the two axes first the rows are mixed."""
    height, width = size
    if output.shape[1] == height:
        near = output[:, slice(*rows)]
    else:
        at = torch.arange(*rows, device=exact_device(output.device), dtype=torch.float64)
        at = ((at + 0.5) * (output.shape[1] / height) - 0.5).clamp_min(0)
        above = at.floor().long().to(output.device)
        below = (above + 1).clamp_max(output.shape[1] - 1)
        share = at.frac().to(output).view(1, -1, 1)
        near = torch.lerp(output[:, above], output[:, below], share)
    if output.shape[2] == width:
        return near
    grid = (near.shape[1], width)
    return F.interpolate(near[None], grid, mode="bilinear", align_corners=False)[0]
