"""Rows mixed with each other, inputs and labels alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adaptune.runtime.processes import gather, gather_each, row_offset

NEAR = 1e-6
"""How near to 1 a cosine is taken at most, where its angle still has a slope."""


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


def geodesic(rows: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Give points between ``rows`` (N, E) and ``others``, of length 1, on their great circle.

    At a ``share`` of 1 they are the rows, at 0 the others; between, of length 1 too. It is computed
    in float32 at the least. What lies opposite has no circle of its own. Source: spherical
    interpolation as in Geodesic Multi-Modal Mixup (Oh et al., 2023).

    >>> geodesic(torch.eye(2), torch.eye(2).flip(0), torch.tensor(0.5))
    tensor([[0.7071, 0.7071],
            [0.7071, 0.7071]])
    """
    exact = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        rows, others, share = rows.to(exact), others.to(exact), share.to(rows.device, exact)
        cosine = (rows * others).sum(1, keepdim=True).clamp(-1 + NEAR, 1 - NEAR)
        angle = torch.acos(cosine)
        ours, theirs = torch.sin(share * angle), torch.sin((1 - share) * angle)
        return (ours * rows + theirs * others) / torch.sin(angle)


def row_draws(
    index: Tensor, columns: int, draw: Callable[[int, int], Tensor] = torch.rand
) -> Tensor:
    """Draw numbers from 0 to 1 for rows that are told apart by ``index`` (N,), (N, ``columns``).

    The first process draws for all, in the order of their indices, so a row's numbers do not depend
    on how rows are shared out. Rows of one index draw alike. What ``draw`` makes of numbers of rows
    and columns may be of another distribution.

    >>> one, other = row_draws(torch.tensor([7, 3]), 2)
    >>> bool((one == other).any())
    False
    """
    every = gather(index)
    drawn = gather_each(draw(len(every), columns))[0].to(index.device)
    return drawn[(every < index.unsqueeze(1)).sum(1)]


def drawn_partners(
    index: Tensor, *, other: Tensor | None = None, same: Tensor | None = None
) -> Tensor:
    """Draw another row for each row, told apart by ``index`` (N,): int64 (N,).

    Rows are those of all processes one after the other, as `gather` joins them. A partner is one of
    another group of ``other`` (N,) and of the same one of ``same`` (N,), where these are given, and
    each such row is as likely; where there is none, a row is its own. Rows lie on a circle by a
    draw of each, and the partner is the next that fits: how rows are shared out changes nothing.

    >>> drawn_partners(torch.arange(4), other=torch.tensor([0, 0, 0, 1])).tolist()[:3]
    [3, 3, 3]
    >>> drawn_partners(torch.arange(2), same=torch.tensor([0, 1])).tolist()
    [0, 1]
    """
    draw, (before, total) = row_draws(index, 1).squeeze(1), row_offset(len(index))
    own = torch.arange(before, before + len(index), device=index.device)
    fits = own.unsqueeze(1) != torch.arange(total, device=index.device)
    if other is not None:
        fits = fits & (other.unsqueeze(1) != gather(other))
    if same is not None:
        fits = fits & (same.unsqueeze(1) == gather(same))
    ahead = (gather(draw) - draw.unsqueeze(1)).remainder(1).masked_fill(~fits, torch.inf)
    return torch.where(fits.any(1), ahead.argmin(1), own)


def class_halves(y: Tensor, draws: Tensor) -> Tensor:
    """Choose half of the classes of each mask (N, H, W), rounded up: where they are, (N, H, W).

    A mask's classes are those of its places that are columns of ``draws`` (N, K), and those whose
    draw is smallest are chosen. Places without a class are never. Source: ClassMix, Olsson et al.,
    2021, as in DACS, Tranheden et al., 2021.

    >>> y = torch.tensor([[[0, 1, 2, 255]]])
    >>> class_halves(y, torch.tensor([[0.9, 0.1, 0.5]])).tolist()
    [[[False, True, True, False]]]
    """
    classes = draws.shape[1]
    number = torch.where(y < classes, y.long(), classes).flatten(1)
    there = draws.new_zeros(len(y), classes + 1).scatter_(1, number, 1.0)[:, :classes] > 0
    place = draws.masked_fill(~there, 2.0).argsort(1).argsort(1)
    chosen = there & (2 * place <= there.sum(1, keepdim=True) - 1)
    none = chosen.new_zeros(len(y), 1)
    return torch.cat([chosen, none], 1).gather(1, number).view(y.shape)


def paste(over: Tensor, under: Tensor, where: Tensor) -> Tensor:
    """Take ``over`` (N, ..., H, W) at the places ``where`` (N, H, W), and ``under`` elsewhere.

    >>> paste(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2), torch.tensor([[[True, False]]]))
    tensor([[[[1., 0.]]]])
    """
    return torch.where(where.unsqueeze(1) if over.dim() == 4 else where, over, under)
