"""One class an example: cross-entropy trains, accuracy or what is asked for counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import ClassVar, get_args

import torch.nn.functional as F
from torch import Tensor

from adaptune.metrics.class_scores import BY_RANK, ClassScore
from adaptune.metrics.classification import ClassTally
from adaptune.results.score import Scores
from adaptune.tasks.task import LabelKind, Labelling
from adaptune.types import UNKNOWN


@dataclass(frozen=True)
class Classification(Labelling):
    """Classification into ``classes``, learnt from ``domains`` labelled domains.

    With ``unknown`` a further, last output, and a label equal to ``classes``, means that an example
    is of none of the classes.

    >>> import torch
    >>> task = Classification(2)
    >>> task.answer(torch.eye(2)).tolist(), task.words(1, ["cat", "dog"])
    ([0, 1], 'dog')
    """

    labels: ClassVar[LabelKind] = "class"

    classes: int
    domains: int = 1
    unknown: bool = False
    _: KW_ONLY
    score: ClassScore = "accuracy"
    threshold: float | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.score not in get_args(ClassScore):
            raise ValueError(
                f"no score {self.score!r}: there are {', '.join(get_args(ClassScore))}"
            )
        if self.unknown and self.score in BY_RANK:
            raise ValueError(
                f"--score {self.score} is of classes that are all known: leave out --open-set, or "
                "give another score"
            )
        if self.score == "hter" and self.classes != 2:
            raise ValueError(f"--score hter is of two classes, and there are {self.classes}")

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """How many columns predictions have."""
        return self.classes + self.unknown

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the cross-entropy of logits (N, K) against ``y`` (N,), a row each.

        Raises:
            ValueError: If the logits are of places.
        """
        _refuse_places(output)
        return F.cross_entropy(output, y, reduction="none")

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the mean of `losses`, in one call of torch's."""
        _refuse_places(output)
        return F.cross_entropy(output, y)

    def tally(self) -> ClassTally:
        """Give an empty tally of what counts."""
        return ClassTally(
            self.classes, unknown=self.unknown, score=self.score, threshold=self.threshold
        )

    @property
    def settles(self) -> bool:
        """Whether tests go by a threshold that validation tells."""
        return self.score == "hter"

    def settled(self, val: Scores) -> Classification:
        """Give the task with the threshold that was found on validation."""
        other = replace(self)
        object.__setattr__(other, "threshold", val.detail["threshold"])
        return other

    def answer(self, output: Tensor) -> Tensor:
        """Give the likeliest class of each row of (N, K), (N,)."""
        return output.argmax(1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Give a class's name."""
        return (*classes, UNKNOWN)[int(answer)]


def _refuse_places(output: Tensor) -> None:
    if output.dim() != 2:
        raise ValueError(
            f"classification is of one class a row, (N, K), and the network gave "
            f"{tuple(output.shape)}: take the mean over places before its head"
        )
