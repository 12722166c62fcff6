"""Rows mixed with each other, inputs and labels alike."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptune.runtime.processes import gather_each, row_offset


def partners(rows: int, *, alpha: float = 0.75) -> tuple[Tensor, Tensor]:
    """Draw for each row its own share of a mix, (N,), and which row has the rest, int64 (N,).

    Rows are those of all processes one after the other, and so are partners; the first process
    draws for all. The share is the larger part of a draw from Beta(``alpha``, ``alpha``), partners
    are a permutation. Source: mixup, Zhang et al., 2018; MixMatch, Berthelot et al., 2019.

    >>> share, partner = partners(3)
    >>> bool((share >= 0.5).all()), sorted(partner.tolist())
    (True, [0, 1, 2])
    """
    before, total = row_offset(rows)
    draw = torch.distributions.Beta(alpha, alpha).sample((total,))
    drawn = gather_each(torch.maximum(draw, 1 - draw))[0], gather_each(torch.randperm(total))[0]
    share, partner = (one[before : before + rows] for one in drawn)
    return share, partner


def mixup(rows: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Give ``share`` (N,) of each of ``rows`` (N, ...) and the rest of each of ``others``.

    >>> mixup(torch.eye(2), torch.zeros(2, 2), torch.tensor([0.5, 1.0])).diagonal()
    tensor([0.5000, 1.0000])
    """
    return others.lerp(rows, share.to(rows).view(-1, *[1] * (rows.dim() - 1)))
