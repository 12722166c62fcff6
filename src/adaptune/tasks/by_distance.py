"""Classes that lie near each other or far apart: answers and scores by a metric on labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from adaptune.metrics.label_distance import DistanceTally
from adaptune.ops.label_distances import frechet_costs
from adaptune.ops.rows import need_rows
from adaptune.tasks.task import LabelKind, Task


class ByDistance(Task):
    """Answer by the Frechet mean of a prediction, under a metric on labels: the rule of Loki.

    A network of ``classes`` gives logits (N, classes). The answer is what has the least mean
    squared distance to the truth, as the logits tell it, among ``answers``, which begin with the
    classes and may be more; ``distances`` (Y, Y) are between them, and labels are their numbers.
    Where all are equally far apart it is the likeliest class. Nothing is trained; the loss is the
    expected squared distance of the label. Source: Geometry-Aware Adaptation for Pretrained Models
    (Roberts et al., 2023).

    >>> import torch
    >>> distances = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    >>> task = ByDistance(2, ("low", "high", "middle"), distances)
    >>> task.words(task.answer(torch.zeros(1, 2)).item(), ("low", "high"))
    'middle'
    """

    labels: ClassVar[LabelKind] = "class"

    def __init__(
        self, classes: int, answers: Sequence[str], distances: Tensor, domains: int = 1
    ) -> None:
        count = len(answers)
        if distances.shape != (count, count) or not 1 <= classes <= count:
            raise ValueError(
                f"distances are square, a row an answer, the first answers being the {classes} "
                f"classes: got {tuple(distances.shape)} of {count} answers"
            )
        self.answers, self.distances, self.domains = tuple(answers), distances, domains
        self.classes = self.outputs = classes

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the expected squared distance from ``y`` (N,), a row of logits (N, K) each."""
        return self.costs(output).gather(1, y.unsqueeze(1)).squeeze(1)

    def costs(self, output: Tensor) -> Tensor:
        """Give each answer's expected squared distance to the truth, (N, Y).

        Raises:
            ValueError: If the logits are of places.
        """
        need_rows(output, "an answer by distances")
        return frechet_costs(output, self.distances[:, : self.classes])

    def tally(self) -> DistanceTally:
        """Give an empty tally of squared distances."""
        return DistanceTally(self.classes, self.distances)

    def answer(self, output: Tensor) -> Tensor:
        """Give the Frechet mean of each row of (N, K), (N,)."""
        return self.costs(output).argmin(1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Give an answer's name, which need be none of the network's classes."""
        del classes
        return self.answers[int(answer)]
