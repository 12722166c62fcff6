"""What networks of several clients come to together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_mean(tensors: Sequence[Tensor], shares: Tensor) -> Tensor:
    """Give the mean of tensors of one shape by ``shares`` (K,), that add up to 1.

    A tensor whose share is 0 does not count, whatever it holds. Source: federated averaging
    (McMahan et al., 2017).

    >>> weighted_mean([torch.ones(2), torch.full((2,), torch.nan)], torch.tensor([1.0, 0.0]))
    tensor([1., 1.])
    """
    stacked = torch.stack(list(tensors))
    shares = shares.to(stacked).view(-1, *[1] * (stacked.dim() - 1))
    return torch.where(shares > 0, shares * stacked, 0.0).sum(0)


def vote(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Let K networks vote, each for one class, by logits (K, N, C).

    Gives the class with the most votes, int64 (N,), the first of several, and its share of them,
    (N,).

    >>> vote(torch.tensor([[[2.0, 1.0]], [[0.0, 3.0]], [[0.0, 1.0]]]))
    (tensor([1]), tensor([0.6667]))
    """
    votes = F.one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype).mean(0)
    most, chosen = votes.max(1)
    return chosen, most
