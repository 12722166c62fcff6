"""One tag at every word of a text: cross-entropy trains, the F1 of spans counts, or accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from adaptune.metrics.tags import TagTally
from adaptune.ops.places import place_losses
from adaptune.tasks.task import LabelKind, Labelling


@dataclass(frozen=True)
class Tagging(Labelling):
    """Tagging of every word with one of ``classes``, learnt from ``domains`` labelled domains.

    A word's tag stands at its first token; at others, and at padding, nothing is asked. Where the
    tags are of spans (``B-PER``, ``I-PER``, ``O``), the F1 of spans counts, else the share of words
    that are right, see `TagTally`.

    The bound of the curvature is that of one prediction (`Labelling`), since a loss that is a mean
    over words is bent no more than its words are; so the loss's Hessian in a linear head's weights
    is at most 0.5 times the second moment of the features at the words that are asked. That of all
    tokens stands for it.

    >>> import torch
    >>> task = Tagging(2)
    >>> task.answer(torch.eye(2).unsqueeze(0)).tolist(), task.words(1, ["O", "B-PER"])
    ([[0, 1]], 'B-PER')
    """

    labels: ClassVar[LabelKind] = "tags"
    places: ClassVar[bool] = True

    classes: int
    domains: int = 1
    names: tuple[str, ...] = field(default=(), init=False, repr=False)

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """How many columns predictions have."""
        return self.classes

    def named(self, classes: Sequence[str]) -> Tagging:
        """Give the task as it is of tags of these names, which may be those of spans."""
        other = replace(self)
        object.__setattr__(other, "names", tuple(classes))
        return other

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the mean cross-entropy of each text over its words that have a tag, (N,).

        So every text weighs the same, however long it is. One without such a word has the loss 0,
        and counts as a row all the same.

        Raises:
            ValueError: If the outputs are of no places.
        """
        if output.dim() != 3:
            raise ValueError(
                f"tagging is of a class at every token, (N, K, L), and the network gave "
                f"{tuple(output.shape)}: take one that keeps tokens apart"
            )
        return place_losses(output, y)

    def tally(self) -> TagTally:
        """Give an empty tally of words and spans."""
        return TagTally(self.classes, self.names)

    def answer(self, output: Tensor) -> Tensor:
        """Give the likeliest class of each token of (N, K, L), (N, L)."""
        return output.argmax(1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Give a tag's name."""
        return classes[int(answer)]
