"""What every task has in common: a loss a row, what counts, what people are told."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, Self

from torch import Tensor

from adaptune.metrics.tally import ScoreTally
from adaptune.ops.windows import WHOLE, Tiles
from adaptune.results.score import Scores

LabelKind = Literal["class", "mask", "tags", "value", "text"]
"""What a label is: a class, one at every place of an image or word of a text, numbers, a text."""


class LabelSpace(Protocol):
    """What brings labels to where outputs are: a network."""

    def partners(self, y: Tensor) -> Tensor:
        """Give the embeddings (N, E), of length 1, of texts by their ids (N, L)."""
        ...


class Task(ABC):
    """What is predicted: what training goes down, and what counts. Abstract.

    Options are keyword-only arguments of ``__init__``. ``outputs`` is how many columns, on axis 1,
    predictions have; ``domains`` how many labelled domains are learnt from.
    """

    labels: ClassVar[LabelKind]
    curvature: ClassVar[float] = math.inf
    """Bounds the loss's second derivative in the outputs; where no bound is known it is endless."""

    places: ClassVar[bool] = False
    """Whether every place of an input has an output of its own, not every example."""

    joins: ClassVar[bool] = False
    """Whether a row's loss compares it with the other rows of the batch, of all processes."""

    outputs: int
    domains: int

    def reading(self, labels: LabelSpace) -> Self:
        """Give the task with what reads its labels, if it takes anything."""
        del labels
        return self

    @property
    def tiles(self) -> Tiles:
        """How images of test sets are looked at, where every place has an answer."""
        return WHOLE

    @abstractmethod
    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give one loss a row, (N,)."""

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the mean over rows of `losses`, so that parts of a batch add up to the whole."""
        return self.losses(output, y).mean()

    @abstractmethod
    def tally(self) -> ScoreTally:
        """Give an empty tally of what counts."""

    def named(self, classes: Sequence[str]) -> Task:
        """Give the task as it is of classes of these names."""
        del classes
        return self

    @property
    def settles(self) -> bool:
        """Whether what ID validation came to decides how tests are scored."""
        return False

    def settled(self, val: Scores) -> Task:
        """Give the task as it scores tests, after what the network came to on ID validation."""
        del val
        return self

    @abstractmethod
    def answer(self, output: Tensor) -> Tensor:
        """Give what is told to people: class numbers (N,), values."""

    @abstractmethod
    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Say one answer, or one label, in words."""


class Labelling(Task, ABC):
    """A task in which every place of an output is one of ``classes``: its loss is softmax's.

    Source of the curvature's bound: Boehning, 1992.
    """

    curvature: ClassVar[float] = 0.5
    classes: int
