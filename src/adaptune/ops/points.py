"""Points that stand for a mask: as far from its edge and from each other as can be."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def spread_points(mask: Tensor, count: int) -> Tensor:
    """Choose at most ``count`` places of a mask (H, W), int64 (P, 2) as (column, row).

    Each is where the distance to all that is outside the mask, or was chosen before, is largest.
    A mask of fewer places gives all of them. Source: the seeds of maskSLIC, Irving, 2016, by which
    GPRN (Peng et al., 2025) chooses points for Segment Anything; its released code takes what lies
    beyond the box around a mask for no outside, so that its points lie in corners.

    >>> spread_points(torch.ones(3, 3), 1).tolist(), len(spread_points(torch.zeros(3, 3), 4))
    ([[1, 1]], 0)
    """
    from scipy.ndimage import distance_transform_edt

    left = mask.detach().cpu().numpy().astype(bool)
    rows, columns = np.nonzero(left)
    if not len(rows):
        return torch.empty(0, 2, dtype=torch.int64)
    top, first = int(rows.min()), int(columns.min())
    left = left[top : rows.max() + 1, first : columns.max() + 1].copy()
    found = []
    for _ in range(min(count, len(rows))):
        away = distance_transform_edt(np.pad(left, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(away.argmax()), left.shape)
        left[row, column] = False
        found.append([int(column) + first, int(row) + top])
    return torch.tensor(found).view(-1, 2)


def point_prompts(mask: Tensor, positive: int, negative: int) -> tuple[Tensor, Tensor]:
    """Give points within a mask (H, W) and outside it, (P, 2), and which are within, int64 (P,).

    >>> points, within = point_prompts(torch.eye(2), 1, 1)
    >>> points.tolist(), within.tolist()
    ([[0, 0], [1, 0]], [1, 0])
    """
    inside, outside = spread_points(mask > 0, positive), spread_points(mask <= 0, negative)
    within = torch.tensor([1] * len(inside) + [0] * len(outside))
    return torch.cat([inside, outside]), within
