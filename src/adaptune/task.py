"""What is predicted: the classes, the loss that trains, the scores that count."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from adaptune.ops.rows import need_rows
from adaptune.types import Outputs


@dataclass(frozen=True)
class Scores:
    """How well a network does on one set: accuracies in percent with a 95% interval, mean loss.

    ``confusion`` has one row a true class and one column a predicted class, in counts. Where a task
    has an unknown, which is the last of both, ``open_set`` holds the mean accuracy of known classes
    (``known``, the field's OS*), that on unknown images (``unknown``) and their harmonic mean
    (``h``), in percent; nothing where the set has no known or no unknown images.
    """

    accuracy: float
    low: float
    high: float
    loss: float
    count: int
    confusion: tuple[tuple[int, ...], ...]
    open_set: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """The standard error of the accuracy, in percent."""
        return math.sqrt(self.accuracy * (100 - self.accuracy) / self.count)

    def to_dict(self) -> dict[str, Any]:
        """Give the scores as plain numbers and lists; those of open sets where there are any."""
        given = asdict(self)
        return given if self.open_set else {k: v for k, v in given.items() if k != "open_set"}


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


def open_set(confusion: Tensor) -> dict[str, float]:
    """Score a confusion matrix (K + 1, K + 1) whose last row and column are unknown, in percent.

    ``known`` is the mean of the accuracies of known classes that are there (OS*), ``unknown`` the
    accuracy on unknown rows, ``h`` their harmonic mean; nothing where one is not defined. Source:
    the H-score of Fu et al., 2020.

    >>> import torch
    >>> open_set(torch.tensor([[3, 0, 1], [0, 4, 0], [1, 2, 1]]))
    {'known': 87.5, 'unknown': 25.0, 'h': 38.888888888888886}
    """
    rows = confusion.sum(1)
    if not (rows[-1] and rows[:-1].any()):
        return {}
    right = 100 * confusion.diagonal().double() / rows
    known, unknown = float(right[:-1][rows[:-1] > 0].mean()), float(right[-1])
    h = 2 * known * unknown / (known + unknown) if known + unknown else 0.0
    return {"known": known, "unknown": unknown, "h": h}


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Give the 95% interval of a share, by Wilson's score (1927).

    >>> tuple(round(bound, 3) for bound in wilson(8, 10))
    (0.49, 0.943)
    """
    share = right / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


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
