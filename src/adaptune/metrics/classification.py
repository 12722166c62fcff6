"""Scores of classes: accuracy with its interval, open sets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


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
