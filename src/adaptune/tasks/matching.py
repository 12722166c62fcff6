"""Pairs: which text belongs to which image, or to which other text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.metrics.retrieval import PairTally
from adaptune.runtime.processes import join, row_offset
from adaptune.tasks.task import LabelKind, LabelSpace, Task


@dataclass(frozen=True)
class Matching(Task):
    """Find for each row its partner: outputs and partners are embeddings, whose product counts.

    A row's loss is the cross-entropy of its scaled cosines with all partners of the batch, of all
    processes, and that of its partner's with all rows, halved. Where a partner stands at several
    rows, by its ids, it is right for each of them, and no row's negative. Source: Representation
    Learning with Contrastive Predictive Coding (van den Oord et al., 2018), both ways as in Radford
    et al., 2021.

    ``classes`` is the width of the space where it is known, and 1 in a run; ``domains`` how many
    labelled domains are learnt from.

    >>> task = Matching(2)
    >>> one = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    >>> task.contrast(one, torch.eye(2)).max().item() < 0.001
    True
    """

    labels: ClassVar[LabelKind] = "text"
    joins: ClassVar[bool] = True

    classes: int
    domains: int = 1
    _: KW_ONLY
    partners: Callable[[Tensor], Tensor] | None = field(default=None, init=False, repr=False)

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """How many axes the space has."""
        return self.classes

    def reading(self, labels: LabelSpace) -> Matching:
        """Give the task with what makes embeddings of partners: a network."""
        other = replace(self)
        object.__setattr__(other, "partners", labels.partners)
        return other

    def embedded(self, y: Tensor) -> Tensor:
        """Give the embeddings of partners by their ids (N, L), (N, E).

        Raises:
            ValueError: If no network makes them.
        """
        if self.partners is None:
            raise ValueError(
                "partners are read by a network: take a method's task, or reading(net)"
            )
        return self.partners(y)

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the loss of each row of scaled embeddings (N, E) with its partner's ids (N, L)."""
        return self.contrast(output, self.embedded(y), y)

    def contrast(self, output: Tensor, partners: Tensor, y: Tensor | None = None) -> Tensor:
        """Give the loss of each row of scaled embeddings (N, E) with its partner's (N, E).

        Partners that have the same ids ``y`` are one.
        """
        ours, theirs = join(output), join(partners)
        first, _ = row_offset(len(output))
        at = torch.arange(first, first + len(output), device=output.device)
        same = None if y is None else same_rows(join(y))
        there = _rows_of(output @ theirs.T, at, same)
        back = _rows_of(partners @ ours.T, at, same)
        return (there + back) / 2

    def tally(self) -> PairTally:
        """Give an empty tally of what counts."""
        return PairTally(self.embedded)

    def answer(self, output: Tensor) -> Tensor:
        """Give the embeddings themselves, of length 1."""
        return F.normalize(output, dim=1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Say the number of a row, whose partner is meant."""
        del classes
        return f"that of row {int(answer)}"


def same_rows(y: Tensor) -> Tensor:
    """Tell which rows of ids (N, L) are equal, (N, N).

    >>> same_rows(torch.tensor([[1, 2], [1, 3], [1, 2]])).int().tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    group: Tensor = torch.unique(y, dim=0, return_inverse=True)[1]
    return group.unsqueeze(1) == group


def _rows_of(alike: Tensor, at: Tensor, same: Tensor | None) -> Tensor:
    """Give each row's cross-entropy; what equals its right column is left out."""
    if same is not None:
        again = same[at].clone()
        again[torch.arange(len(at), device=at.device), at] = False
        alike = alike.masked_fill(again, -torch.inf)
    return F.cross_entropy(alike, at, reduction="none")
