"""A task beside classification, for tests: the same labels, softer."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from adaptune.metrics.classification import ClassTally
from adaptune.tasks.task import LabelKind, Labelling


class Noisy(Labelling):
    """Like classification, with labels that err a share of the time; nothing but labelling."""

    labels: ClassVar[LabelKind] = "class"

    def __init__(self, classes: int, domains: int = 1, *, noise: float = 0.1) -> None:
        """Make it.

        Args:
            classes: How many.
            domains: How many.
            noise: The share of labels that err.
        """
        self.classes = self.outputs = classes
        self.domains, self.noise = domains, noise

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y, reduction="none", label_smoothing=self.noise)

    def tally(self) -> ClassTally:
        return ClassTally(self.classes)

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)

    def words(self, answer, classes) -> str:
        return classes[int(answer)]
