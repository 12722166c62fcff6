"""What is predicted: the classes, the loss that trains, the scores that count."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from adaptune.metrics.classification import Scores, open_set, wilson
from adaptune.ops.rows import need_rows
from adaptune.types import Outputs


@dataclass(frozen=True)
class Task:
    """Classification into ``classes``, learnt from ``domains`` labelled domains.

    With ``unknown`` a further, last output, and a label equal to ``classes``, means that an example
    is of none of the classes.
    """

    classes: int
    domains: int = 1
    unknown: bool = False

    @property
    def outputs(self) -> int:
        """How many columns predictions have."""
        return self.classes + self.unknown

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Give the mean cross-entropy of ``logits`` (N, K) against ``y`` (N,)."""
        return F.cross_entropy(logits, y)

    def score(self, outputs: Outputs) -> Scores:
        """Score the outputs of a whole set.

        Raises:
            ValueError: If the set is empty, or the outputs are not one prediction a row, or not as
                many as the task's.

        >>> import torch
        >>> outputs = Outputs(torch.eye(2), torch.tensor([0, 0]), torch.eye(2), torch.arange(2))
        >>> Task(2).score(outputs).accuracy
        50.0
        """
        count = len(outputs.y)
        if count == 0:
            raise ValueError("no image could be scored: the set is empty, or no file could be read")
        need_rows(outputs.logits, "a score of classes")
        columns = outputs.logits.shape[1]
        if columns != self.outputs:
            raise ValueError(
                f"a task of {self.classes} classes{' and unknown' * self.unknown} has "
                f"{self.outputs} outputs and got {columns}: evaluate a method that predicts them"
            )
        confusion = multiclass_confusion_matrix(outputs.logits, outputs.y, self.outputs)
        right = int(confusion.diagonal().sum())
        low, high = wilson(right, count)
        return Scores(
            accuracy=100 * right / count,
            low=100 * low,
            high=100 * high,
            loss=float(F.cross_entropy(outputs.logits.float(), outputs.y)),
            count=count,
            confusion=tuple(tuple(row) for row in confusion.tolist()),
            open_set=open_set(confusion) if self.unknown else {},
        )


def hardest(outputs: Outputs, number: int) -> list[int]:
    """Find the rows that were most surely wrong, the surest first.

    >>> import torch
    >>> logits = torch.tensor([[9.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    >>> hardest(Outputs(logits, torch.tensor([1, 1, 1]), logits, torch.arange(3)), 2)
    [0, 1]
    """
    sure, guess = outputs.logits.float().softmax(1).max(1)
    wrong = (guess != outputs.y).nonzero().flatten()
    order = sure[wrong].argsort(descending=True, stable=True)
    return [int(row) for row in wrong[order][:number]]
