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
        return both_ways(output, partners, None if y is None else same_rows(join(y)))

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


def both_ways(output: Tensor, partners: Tensor, left: Tensor | None = None) -> Tensor:
    """Give the loss of each row of scaled embeddings (N, E) with its partner's (N, E).

    It is compared with the rows of all processes, M of them, but for those that ``left`` (M, M)
    leaves out of its negatives.
    """
    ours, theirs, at = join(output), join(partners), own_places(output)
    there = losses_at(output @ theirs.T, at, left)
    return (there + losses_at(partners @ ours.T, at, left)) / 2


def own_places(rows: Tensor) -> Tensor:
    """Give where rows (N, ...) are among those of all processes, (N,).

    >>> own_places(torch.zeros(3, 2))
    tensor([0, 1, 2])
    """
    first, _ = row_offset(len(rows))
    return torch.arange(first, first + len(rows), device=rows.device)


def losses_at(alike: Tensor, at: Tensor, left: Tensor | None = None) -> Tensor:
    """Give the cross-entropy of each row of ``alike`` (N, M) with its own column ``at`` (N,).

    What ``left`` (M, M) leaves out is no column, but for the row's own.

    >>> losses_at(torch.zeros(2, 4), torch.tensor([2, 3]))
    tensor([1.3863, 1.3863])
    """
    if left is not None:
        again = left[at].clone()
        again[torch.arange(len(at), device=at.device), at] = False
        alike = alike.masked_fill(again, -torch.inf)
    return F.cross_entropy(alike, at, reduction="none")
