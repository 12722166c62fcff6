"""Labels that were asked for, with the images they belong to and anchors of their features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.banks import update_rows_
from adaptune.ops.information import entropy
from adaptune.ops.mixing import mixup, partners
from adaptune.runtime.processes import gather, gather_each, row_offset
from adaptune.types import Labeled


class LabelledPool(nn.Module):
    """Room for as many answers as may be asked for, filled from the front, round by round.

    ``previous`` (N, K) is what was predicted for every image in the round before. All of it is in
    buffers, images too, so that it moves, is saved and goes on with the method.

    >>> answers = LabelledPool(3, (2,), torch.zeros(9, 2), width=1)
    >>> answers.add(torch.tensor([7]), torch.tensor([1]), torch.ones(1, 2))
    >>> answers.at(answers.drawn(2)).index.tolist()
    [7, 7]
    """

    rows: Tensor
    labels: Tensor
    images: Tensor
    anchors: Tensor
    count: Tensor
    previous: Tensor
    round: Tensor

    def __init__(self, most: int, shape: tuple[int, ...], previous: Tensor, *, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.full((most,), -1))
        self.register_buffer("labels", torch.zeros(most, dtype=torch.int64))
        self.register_buffer("images", torch.zeros(most, *shape))
        self.register_buffer("anchors", torch.zeros(most, width))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("previous", previous)
        self.register_buffer("round", torch.tensor(0))

    def add(self, rows: Tensor, labels: Tensor, images: Tensor) -> None:
        """Take further answers: rows of the target (N,), their labels (N,) and images (N, ...)."""
        place = slice(int(self.count), int(self.count) + len(rows))
        self.rows[place], self.labels[place], self.images[place] = rows, labels, images
        self.count += len(rows)

    def end_round(self, predicted: Tensor) -> None:
        """Count a round, and keep what it predicted (N, K)."""
        self.previous.copy_(predicted)
        self.round += 1

    def free(self, index: Tensor) -> Tensor:
        """Tell which rows of the target (N,) have no answer, bool (N,)."""
        return ~torch.isin(index, self.rows)

    def drawn(self, number: int) -> Tensor:
        """Draw places of answers (N,), none twice before all were drawn once.

        Of several processes the first draws for all, one after the other.
        """
        free = torch.arange(len(self.rows), device=self.rows.device) >= self.count
        drawn = gather_each(torch.rand(len(free), device=free.device))[0]
        order, (before, _) = drawn.masked_fill(free, 2.0).argsort(), row_offset(number)
        return order[torch.arange(before, before + number, device=free.device) % self.count]

    def at(self, places: Tensor) -> Labeled:
        """Give the labelled rows at ``places`` (N,)."""
        rows = self.rows[places]
        return Labeled(self.images[places], torch.zeros_like(rows), rows, y=self.labels[places])

    def some(self, number: int) -> Labeled:
        """Give labelled rows that are `drawn`."""
        return self.at(self.drawn(number))

    def mixed(self, places: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Mix the images at ``places`` (N,) with others there: images, and shares of labels (N, K).

        Of several processes each mixes its own with those of all.
        """
        share, partner = (one.to(places.device) for one in partners(len(places)))
        own, other = self.at(places), self.at(gather(places)[partner])
        y, theirs = (F.one_hot(one.y, classes).to(own.x.dtype) for one in (own, other))
        return mixup(own.x, other.x, share), mixup(y, theirs, share)

    def follow_(self, places: Tensor, features: Tensor, momentum: float) -> None:
        """Move anchors towards features (N, D): (1 - ``momentum``) old + ``momentum`` new."""
        old, new = self.anchors[places], features.detach().to(self.anchors)
        update_rows_(self.anchors, places, old.lerp(new, momentum))

    def follow_all_(self, features: Tensor, momentum: float) -> None:
        """Move all anchors towards the features of their rows in a bank (N, D)."""
        rows = self.rows[: int(self.count)]
        places = torch.arange(len(rows), device=rows.device)
        self.follow_(places, features[rows], momentum)

    def doubt(self, features: Tensor) -> Tensor:
        """Give the entropy of the softmax of the cosines from features (N, D) to anchors, (N,).

        Source: visual persistence, Lyu et al., 2024.
        """
        alike = F.normalize(features) @ F.normalize(self.anchors).T
        free = torch.arange(len(self.rows), device=self.rows.device) >= self.count
        return entropy(alike.masked_fill(free, NEVER))


NEVER = -1e4
"""A logit so low that its share is exactly zero, in half precision too."""
