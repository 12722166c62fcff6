"""How sure predictions are, each and together, as terms that gradients flow through."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adaptune.ops.rows import need_rows

DIGITS = 10_000
"""Steps of a threshold between 0 and 1, much larger than what float32 errs."""


def entropy(logits: Tensor) -> Tensor:
    """Give the entropy of each prediction (N, K) in nats, (N,): 0 where it is certain.

    >>> entropy(torch.zeros(1, 2))
    tensor([0.6931])
    """
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Give the entropy of the mean prediction of rows (N, K) in nats: ln K where it is even.

    Raises:
        ValueError: If the predictions are not one a row.

    >>> marginal_entropy(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    tensor(0.6931)
    """
    need_rows(logits, "the entropy of the mean prediction")
    logs = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))
    return -(logs.exp() * logs).sum()


def js_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Give the Jensen-Shannon divergence of two softmaxes (N, K, ...) in nats, (N, ...).

    It is 0 of equal ones and at most ln 2.

    >>> js_divergence(torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]]))
    tensor([0.6931])
    """
    ours, theirs = logits.log_softmax(1), others.log_softmax(1)
    middle = torch.logaddexp(ours, theirs) - math.log(2)
    return (ours.exp() * (ours - middle) + theirs.exp() * (theirs - middle)).sum(1) / 2


def information(logits: Tensor) -> Tensor:
    """Give what predictions (N, K) tell of their images in nats, a scalar; 0 of no row.

    >>> information(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    tensor(0.6931)
    """
    if not len(logits):
        return logits.sum()
    return marginal_entropy(logits) - entropy(logits).mean()


def uncertainty(logits: Tensor) -> Tensor:
    """Give the entropy of each prediction (N, K) as a share of the largest, ln K, (N,).

    >>> uncertainty(torch.zeros(1, 5))
    tensor([1.])
    """
    return entropy(logits) / math.log(logits.shape[1])


def keeping(logits: Tensor, share: float) -> float:
    """Give the least threshold that keeps a share of predictions (N, K) from being rejected.

    It is the quantile of their `uncertainty`, to four digits, and below 1, as a threshold is.

    >>> logits = torch.tensor([[9.0, 0.0], [5.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    >>> add_unknown_column(logits, keeping(logits, 0.75)).argmax(1).tolist()
    [0, 0, 0, 2]
    """
    unsure = uncertainty(logits).sort().values
    most = float(unsure[max(0, math.ceil(share * len(unsure)) - 1)])
    return min((math.floor(DIGITS * most + 0.1) + 1) / DIGITS, 1 - 1e-9)


def add_unknown_column(logits: Tensor, threshold: float) -> Tensor:
    """Add a last column to logits (N, K) that is the largest where a prediction is too unsure.

    It exceeds the largest other logit by how far the `uncertainty` exceeds ``threshold``, so that
    its argmax means unknown where it does. Source: the rejection of Qu et al., 2023.

    >>> add_unknown_column(torch.tensor([[9.0, 0.0], [1.0, 0.0]]), 0.55).argmax(1)
    tensor([0, 2])
    """
    column = logits.amax(1) + uncertainty(logits) - threshold
    return torch.cat([logits, column.unsqueeze(1)], 1)
