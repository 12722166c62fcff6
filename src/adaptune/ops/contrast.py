"""Features that are to be like some others, and unlike the rest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def supervised_contrast(features: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Ask each row to be nearer to the rows of its group than to all others, a scalar.

    The mean over rows i of the mean over the others j of its group of ``-log(exp(f_i . f_j / t) /
    sum_{k != i} exp(f_i . f_k / t))``, for features (N, D) of length 1. A row that is alone in its
    group asks nothing. With groups of two views it is NT-Xent (Chen et al., 2020). Source:
    Supervised Contrastive Learning (Khosla et al., 2020), the sum outside of the logarithm.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> supervised_contrast(rows, torch.tensor([0, 0, 1]), 1.0)  # log(1 + 1 / e)
    tensor(0.3133)
    """
    alike = features @ features.T / temperature
    own = torch.eye(len(features), dtype=torch.bool, device=features.device)
    logs = alike - alike.masked_fill(own, -torch.inf).logsumexp(1, keepdim=True)
    same = (groups.unsqueeze(1) == groups) & ~own
    count = same.sum(1)
    each = -torch.where(same, logs, 0.0).sum(1) / count.clamp_min(1)
    return each.sum() / (count > 0).sum().clamp_min(1)


def weighted_contrast(alike: Tensor, weights: Tensor) -> Tensor:
    """Ask each row of scaled cosines (N, M) for its columns as ``weights`` (N, M) say, (N,).

    ``-sum_j w_ij log softmax_j(alike_i) / sum_j w_ij``: where weights are the identity it is the
    cross-entropy with each row's own column. Source: CWCL: Cross-Modal Transfer with Continuously
    Weighted Contrastive Loss (Srinivasa et al., 2023).

    >>> weighted_contrast(torch.zeros(2, 4), torch.ones(2, 4))
    tensor([1.3863, 1.3863])
    """
    return -(weights * alike.log_softmax(1)).sum(1) / weights.sum(1)


def lone_but(y: Tensor, compact: int) -> Tensor:
    """Give each row (N,) a group of its own, but one to all of the class ``compact``.

    >>> lone_but(torch.tensor([1, 0, 0, 1]), 1).tolist()
    [0, 2, 3, 0]
    """
    number = torch.arange(1, len(y) + 1, device=y.device)
    return torch.where(y == compact, 0, number)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """Give the mean square of the products of all rows (N, D) of one kind with all of another.

    >>> overlap(torch.eye(2), torch.tensor([[0.0, 1.0]])).item()
    0.5
    """
    return (one @ other.T).square().mean()


def ambiguity(cosines: Tensor) -> Tensor:
    """Give the mean square of how far cosines (N, K) are from 1/K.

    >>> ambiguity(torch.tensor([[1.0, 0.0]])).item()
    0.25
    """
    return (cosines - 1 / cosines.shape[1]).square().mean()


def lowered(logits: Tensor, y: Tensor, margins: Tensor) -> Tensor:
    """Take ``margins`` (N,) from the logits (N, K) of the rows' own classes.

    >>> lowered(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([3.0])).tolist()
    [[0.0, -3.0]]
    """
    return logits - margins.to(logits).unsqueeze(1) * F.one_hot(y, logits.shape[1])
