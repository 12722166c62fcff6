"""Labels of places by what a network is sure of, and how sure it must be of each class."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import add_up
from adaptune.types import Unlabeled

IGNORED = 255
"""The label of a place of which nothing is asked."""

BINS = 1000
"""Into how many parts probabilities are counted."""


def sure_labels(logits: Tensor, least: Tensor | float) -> Tensor:
    """Label places by predictions (N, K, ...) of probability ``least`` or more, others 255.

    ``least`` is one number for all classes, or one for each, (K,).

    >>> sure_labels(torch.tensor([[[9.0, 0.1], [0.0, 0.0]]]), 0.9)
    tensor([[  0, 255]])
    """
    sureness, labels = logits.softmax(1).max(1)
    wanted = least[labels] if isinstance(least, Tensor) else least
    return labels.masked_fill(sureness < wanted, IGNORED)


def only_of(labels: Tensor, there: Tensor) -> Tensor:
    """Keep the labels (N, ...) of classes that are ``there`` in their row, (N, K); others are 255.

    >>> only_of(torch.tensor([[0, 1, 9]]), torch.tensor([[False, True]]))
    tensor([[255,   1, 255]])
    """
    classes = there.shape[1]
    known = there.gather(1, labels.flatten(1).long().clamp(0, classes - 1)).view_as(labels)
    return labels.masked_fill(~known | (labels >= classes), IGNORED)


@torch.no_grad()
def class_thresholds(
    model: nn.Module,
    batches: Iterable[Unlabeled],
    least: Tensor,
    *,
    share: float = 0.5,
    most: float = 0.9,
) -> None:
    """Find for each class the probability that ``share`` of its places do not reach, (K,).

    It is written into ``least``, to three digits, at most ``most``, and 0 for a class that is
    never predicted. The model is in eval mode meanwhile; places of all processes count alike.
    Source: class-balanced self-training, Zou et al., 2018, by the rule of DATR's released code.

    >>> rows, least = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 9.0]]), torch.zeros(2)
    >>> class_thresholds(nn.Identity(), [Unlabeled(rows, rows, rows)], least)
    >>> least
    tensor([0.0000, 0.8800])
    """
    counts = torch.zeros(len(least) * BINS, dtype=torch.int64, device=least.device)
    with in_eval(model):
        for some in batches:
            sureness, labels = model(some.x).softmax(1).max(1)
            part = (sureness * BINS).long().clamp_max(BINS - 1)
            counts += torch.bincount((labels * BINS + part).flatten(), minlength=len(counts))
    sums = add_up(counts).view(-1, BINS).cumsum(1)
    below = (sums <= share * sums[:, -1:]).sum(1)
    known = (below / BINS).clamp_max(most)
    least.copy_(torch.where(sums[:, -1] > 0, known, 0.0))
