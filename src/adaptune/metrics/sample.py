"""A fixed sample of a set's rows: what looks at outputs row by row sees no more than that."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptune.ops.rows import spread_over, spread_places
from adaptune.runtime.processes import gather, rank_and_world
from adaptune.types import Outputs

SAMPLE = 2000
"""Rows of a set that label-free scores and distortion look at: some compare all with all."""

PLACES = 8
"""Places that are kept of a row, where it has many; as many times fewer rows are taken then."""

FREE = 2**63 - 1
"""The rank of a place that holds no row yet: no row's own is higher."""


class Sample:
    """At most ``size`` rows of a set: those whose index ranks lowest by a hash.

    So it is the same sample for any batches, order and number of processes, and for every network.
    A set of no more rows is kept whole. Of rows with places, (N, C, h, w), at most ``places`` are
    kept, (N, C, P): the same of outputs, features and labels (N, P) on grids of any size. Where
    outputs are of several windows, or labels filled up, they are not those of the features any
    more.

    >>> from dataclasses import replace
    >>> rows = torch.arange(6)
    >>> outputs = Outputs(torch.eye(6), rows, torch.eye(6), rows)
    >>> whole, parts = Sample(2), Sample(2)
    >>> whole.add(outputs)
    >>> for part in (rows[3:], rows[:3]):
    ...     parts.add(outputs.at(part))
    >>> whole.outputs().index.tolist() == parts.outputs().index.tolist()
    True
    """

    def __init__(self, size: int = SAMPLE, places: int = PLACES) -> None:
        self.size, self.whole, self.places = size, size, places
        self.rank = torch.full((size,), FREE)
        self.rooms: list[Tensor] = []

    def add(self, outputs: Outputs) -> None:
        """Take the rows of a batch that rank among the lowest so far, in the place of others."""
        index = outputs.index.cpu()
        rank = ranks(index)
        if outputs.features.dim() > 2 and self.size == self.whole:
            self._resize(max(1, self.whole // self.places))
        keep = torch.cat([self.rank, rank]).argsort(stable=True)[: self.size]
        coming = keep[keep >= self.size] - self.size
        if not len(coming):
            return
        stays = torch.zeros(self.size, dtype=torch.bool)
        stays[keep[keep < self.size]] = True
        places = (~stays).nonzero().flatten()
        few = _few_of(outputs, self.places)
        parts = [
            few.logits[coming].cpu(),
            few.y[coming].cpu(),
            few.features[coming].float().cpu(),
            index[coming],
        ]
        if not self.rooms:
            self.rooms = [part.new_empty((self.size, *part.shape[1:])) for part in parts]
        self.rank[places] = rank[coming]
        for room, part in zip(self.rooms, parts, strict=True):
            room[places] = part

    def _resize(self, size: int) -> None:
        """Have room for fewer rows; none is taken yet, or there were as few before."""
        self.size, self.rank = size, self.rank[:size]

    def merge(self) -> None:
        """Choose again among what all processes chose."""
        if rank_and_world()[1] == 1:
            return
        self._resize(int(gather(torch.tensor([self.size])).min()))
        lowest = gather(self.rank).sort().values[: self.size]
        self.rank = torch.where(self.rank <= lowest[-1], self.rank, FREE)
        own, rooms = self._rows(), []
        self.rank, self.rooms = torch.full((self.size,), FREE), []
        while own:
            rooms.append(gather(own.pop(0)))  # so that one of them is there twice at a time
        if len(rooms[-1]) == self.size:
            self.rank, self.rooms = ranks(rooms[-1]), rooms
        elif len(rooms[-1]):
            self.add(Outputs(*rooms))

    def outputs(self) -> Outputs:
        """Give the rows, in the order of their index."""
        return Outputs(*self._rows())

    def _rows(self) -> list[Tensor]:
        """Give what was taken, in order; a process without rows need not know their shape."""
        if not self.rooms:
            none = torch.empty(0, dtype=torch.int64)
            return [torch.empty(0, 1), none, torch.empty(0, 1), none]
        filled = (self.rank != FREE).nonzero().flatten()
        order = filled[self.rooms[-1][filled].argsort()]
        return [room[order] for room in self.rooms]


def _few_of(outputs: Outputs, places: int) -> Outputs:
    """Keep some places of each row, as many on any grid: those that features are kept of."""
    if outputs.features.dim() <= 2:
        return outputs
    count = spread_over(outputs.features, places)
    logits, y, features = (
        spread_places(one, *count)
        for one in (outputs.logits, outputs.y.unsqueeze(1), outputs.features)
    )
    return Outputs(logits, y.squeeze(1), features, outputs.index)


def ranks(index: Tensor) -> Tensor:
    """Give each row a rank by its index alone, both (N,) int64: a hash that mixes all bits.

    >>> ranks(torch.arange(3)).unique().numel()
    3
    """
    mixed = (index + 1) * -7046029254386353131  # 2^64 / golden ratio, odd: no two rows meet
    mixed = (mixed ^ ((mixed >> 29) & (2**35 - 1))) * -4658895280553007687
    return (mixed ^ ((mixed >> 32) & (2**32 - 1))) & (FREE - 1)
