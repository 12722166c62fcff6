"""Gradients of a linear head's cross-entropy, example by example, in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.rows import need_rows

Parts = tuple[Tensor, Tensor]
"""What belongs to a head's weight, and to its bias."""


def residuals(logits: Tensor, y: Tensor) -> Tensor:
    """Give the gradient of each row's cross-entropy in its logits (N, K): softmax minus one-hot.

    >>> residuals(torch.zeros(1, 2), torch.tensor([0]))
    tensor([[-0.5000,  0.5000]])
    """
    need_rows(logits, "a gradient of a head")
    return logits.softmax(1) - F.one_hot(y, logits.shape[1])


def head_gradients(features: Tensor, logits: Tensor, y: Tensor) -> Parts:
    """Give each row's gradient in the head's weight (N, K, D) and bias (N, K).

    Features are (N, D), logits (N, K) what a linear head says of them. A gradient is the residual
    times the feature, so no backward pass is needed.

    >>> weight, bias = head_gradients(torch.tensor([[2.0]]), torch.zeros(1, 2), torch.tensor([0]))
    >>> weight.tolist(), bias.tolist()
    ([[[-1.0], [1.0]]], [[-0.5, 0.5]])
    """
    bias = residuals(logits, y)
    return torch.einsum("nk,nd->nkd", bias, features), bias


def gradient_moments(features: Tensor, residual: Tensor) -> tuple[Parts, Parts]:
    """Give the means and mean squares, (K, D) and (K,) each, of the rows' gradients of a head.

    They are products of matrices, so the gradients (N, K, D) themselves need not be there.

    >>> features, residual = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [-1.0]])
    >>> (mean, _), (square, _) = gradient_moments(features, residual)
    >>> mean.item(), square.item()
    (-1.0, 5.0)
    """
    count, squares = len(features), residual.square()
    means = residual.T @ features / count, residual.mean(0)
    return means, (squares.T @ features.square() / count, squares.mean(0))


def gradient_inconsistency(
    features: Tensor, logits: Tensor, y: Tensor, near: Tensor, near_logits: Tensor
) -> Tensor:
    """Give how differently a head's gradients vary on rows and on what lies near them.

    Of features (N, D) and logits (N, K) of rows, and those of their neighbours, whose labels are
    the same: the mean over the head's weights and biases together of ``((V - V') / 2)^2``, V and V'
    being the gradients' variances around the rows' own mean; and, for weights and for biases, the
    neighbours' mean squared norm of a gradient by its length. Gradients flow through all of it.
    Computed in float32 at least. Source: UDIM (Shin et al., 2024).

    >>> x, y, logits = torch.ones(2, 1), torch.tensor([0, 1]), torch.zeros(2, 2)
    >>> gradient_inconsistency(x, logits, y, x, logits)
    tensor(0.5000)
    """
    with torch.autocast(features.device.type, enabled=False):
        found = (features, logits, near, near_logits)
        own, said, theirs, told = (
            one.to(torch.promote_types(one.dtype, torch.float32)) for one in found
        )
        centres, squares = gradient_moments(own, residuals(said, y))
        means, near_squares = gradient_moments(theirs, residuals(told, y))
        spreads, norms = [], []
        for centre, square, mean, other in zip(centres, squares, means, near_squares, strict=True):
            spread = square - centre.square()
            theirs_spread = other - 2 * centre * mean + centre.square()
            spreads.append((spread - theirs_spread).flatten() / 2)
            norms.append(other.mean())
        return torch.cat(spreads).square().mean() + torch.stack(norms).sum()
