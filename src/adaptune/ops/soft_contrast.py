"""Contrast of views in which pairs count by how alike they are, under a heavy-tailed kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def soft_contrast(
    features: Tensor,
    embeddings: Tensor,
    *,
    near: float = 10.0,
    width: float = 0.2,
    freedom: tuple[float, float] = (100.0, 10.0),
) -> Tensor:
    """Ask embeddings (2N, E) of N images and a view of each to be as alike as features (2N, D) are.

    Of every two rows it is the binary cross-entropy between P, how alike their features are
    (`alike`, of the first of ``freedom``), and Q, how alike their embeddings are (of the second);
    the mean over all pairs, a row with itself counting 0. No gradient goes through P. Squared
    distances of features are divided by ``width`` times the batch's mean between images; that of an
    image and its view is also divided by ``near``, so that a view far from its image counts less;
    infinity makes it a plain positive. Source: SAN (Zang et al., 2023); the mean as a unit, and
    views' own distances, are ours.

    >>> x = torch.tensor([[0.0], [2.0], [0.0], [2.0]])
    >>> other = x[[0, 0, 1, 1]]
    >>> bool(soft_contrast(x, x) < 0.1 < soft_contrast(x, other))
    True
    """
    with torch.autocast(features.device.type, enabled=False):
        target = similarity_weights(features.detach(), near=near, width=width, freedom=freedom[0])
        embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        logs = _log_kernel(torch.cdist(embeddings, embeddings).square(), freedom[1])
        there = logs + torch.log(2 - logs.exp())
        apart = 2 * torch.log1p(-logs.exp())
        losses = -(target * there + (1 - target) * apart)
        return (losses * (1 - torch.eye(len(losses), device=losses.device))).mean()


def similarity_weights(
    features: Tensor, *, near: float = 10.0, width: float = 0.2, freedom: float = 100.0
) -> Tensor:
    """Give how alike features (2N, D) of N images and a view of each are, (2N, 2N); see above.

    >>> x = torch.tensor([[0.0], [2.0], [0.1], [2.0]])
    >>> similarity_weights(x)[0].round(decimals=1)
    tensor([1., 0., 1., 0.])
    """
    features = features if features.dtype == torch.float64 else features.float()
    count = len(features) // 2
    squares = torch.cdist(features, features).square()
    pairs = max(count * (count - 1), 1)
    middle = squares[:count, :count].sum() / pairs
    squares = squares / (width * middle).clamp_min(torch.finfo(squares.dtype).tiny)
    views = torch.eye(count, dtype=torch.bool, device=features.device).repeat(2, 2)
    return alike(torch.where(views, squares / near, squares), freedom)


def alike(squares: Tensor, freedom: float) -> Tensor:
    """Give how alike two rows are by their squared distance: from nearly 1 down to 0.

    It is 1 - (1 - k)^2, k being 2 pi c^2 (1 + d / v)^-(v + 1) with Student's factor c of v degrees
    of ``freedom``: the fewer they are, the more slowly it falls. Source: SAN (Zang et al., 2023).

    >>> alike(torch.tensor([0.0, 1.0, 9.0]), 10.0)
    tensor([0.9976, 0.5557, 0.0016])
    """
    return 1 - (1 - _log_kernel(squares, freedom).exp()).square()


def _log_kernel(squares: Tensor, freedom: float) -> Tensor:
    factor = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    factor -= math.log(freedom * math.pi) / 2
    return math.log(2 * math.pi) + 2 * factor - (freedom + 1) * torch.log1p(squares / freedom)
