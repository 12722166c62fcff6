"""Squares of images: which are taken from another image, and which images teach most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptune.ops.information import uncertainty


def patch_masks(rows: int, size: Sequence[int], *, grid: int, share: float) -> Tensor:
    """Draw for each row which places are taken from another image, bool (N, H, W).

    A row is cut into ``grid`` times ``grid`` patches as equal as they can be, of which the nearest
    number to ``share`` of them are drawn; where H or W is below ``grid`` a place is a patch.

    >>> mask = patch_masks(3, (8, 6), grid=2, share=0.5)
    >>> mask.shape, mask.float().mean((1, 2)).tolist()
    (torch.Size([3, 8, 6]), [0.5, 0.5, 0.5])
    """
    height, width = (min(grid, side) for side in size)
    count = height * width
    rank = torch.rand(rows, count).argsort(1).argsort(1)
    drawn = (rank < round(share * count)).view(rows, height, width)
    down, across = (
        torch.arange(side) * cells // side
        for side, cells in zip(size, (height, width), strict=True)
    )
    return drawn[:, down][:, :, across]


def pasted(rows: Tensor, others: Tensor, mask: Tensor) -> Tensor:
    """Give ``others`` where ``mask`` (N, H, W) is set, else ``rows``, both (N, ..., H, W).

    >>> pasted(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.tensor([[[True, False]]])).tolist()
    [[[1.0, 0.0]]]
    """
    shape = (len(mask), *[1] * (rows.dim() - 3), *mask.shape[1:])
    return torch.where(mask.view(shape), others.to(rows.dtype), rows)


def most_uncertain(logits: Tensor, share: float) -> Tensor:
    """Choose the share of rows whose predictions (N, K, ...) are the most uncertain, int64 (M,).

    A row counts by the mean over its places of the entropy; at least one row is chosen, and the
    order of rows stays.

    >>> most_uncertain(torch.tensor([[9.0, 0.0], [0.0, 0.0], [0.1, 0.0]]), 0.6)
    tensor([1, 2])
    """
    each = uncertainty(logits).reshape(len(logits), -1).mean(1)
    return each.topk(max(1, round(share * len(each)))).indices.sort().values
