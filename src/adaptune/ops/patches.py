"""Squares of images: which are taken from another image, and which images teach most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptune.ops.information import uncertainty
from adaptune.runtime.processes import gather, rank_and_world


def patch_masks(draws: Tensor, size: Sequence[int], *, grid: int, share: float) -> Tensor:
    """Say for each row which places are taken from another image, bool (N, H, W).

    A row is cut into ``grid`` times ``grid`` patches as equal as they can be, of which the nearest
    number to ``share`` of them are taken, those of the smallest of its ``draws`` (N, grid * grid);
    where H or W is below ``grid`` a place is a patch.

    >>> mask = patch_masks(torch.rand(3, 4), (8, 6), grid=2, share=0.5)
    >>> mask.shape, mask.float().mean((1, 2)).tolist()
    (torch.Size([3, 8, 6]), [0.5, 0.5, 0.5])
    """
    height, width = (min(grid, side) for side in size)
    count = height * width
    rank = draws[:, :count].argsort(1).argsort(1)
    drawn = (rank < round(share * count)).view(len(draws), height, width)
    down, across = (
        torch.arange(side, device=draws.device) * cells // side
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


def most_uncertain(logits: Tensor, share: float, *rows: Tensor) -> list[Tensor]:
    """Keep of ``rows`` (N, ...) the share whose predictions (N, K, ...) are the most uncertain.

    A row counts by the mean over its places of the entropy; at least one row is kept, and the order
    of rows stays. They are chosen among the rows of all processes and dealt out to these in turn,
    as a batch is.

    Raises:
        ValueError: If there are fewer than processes.

    >>> logits = torch.tensor([[9.0, 0.0], [0.0, 0.0], [0.1, 0.0]])
    >>> most_uncertain(logits, 0.6, torch.arange(3))
    [tensor([1, 2])]
    """
    each = uncertainty(logits).reshape(len(logits), -1).mean(1)
    rank, world = rank_and_world()
    place = rank + world * torch.arange(len(each), device=each.device)
    every, places = gather(each), gather(place)
    order = places.argsort()
    kept = places[order[every[order].topk(max(1, round(share * len(every)))).indices]]
    if len(kept) < world:
        raise ValueError(
            f"{len(kept)} informative images of a batch cannot be shared by {world} processes: "
            "give a larger --batch-size"
        )
    own = torch.isin(place, kept)
    dealt = gather(place[own]).argsort()[rank::world]
    return [gather(one[own])[dealt] for one in rows]
