"""Batches on their way to the network: on which device, in which layout, in how many parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.types import Batch, Domains, Labeled, Needs, Split, Unlabeled

Some = TypeVar("Some", bound=Unlabeled)


def layout_of(module: nn.Module) -> torch.memory_format:
    """Give the layout of a network's images: that which training chose, else channels last.

    Channels last is for networks that convolve images only, where it is faster nearly always.

    >>> layout_of(nn.Conv2d(1, 1, 1)), layout_of(nn.Linear(1, 1))
    (torch.channels_last, torch.contiguous_format)
    """
    parts = list(module.modules())
    convolves = any(isinstance(part, nn.Conv2d) for part in parts)
    kept = any(isinstance(part, Network) and part.layout == "contiguous" for part in parts)
    return torch.channels_last if convolves and not kept else torch.contiguous_format


def to_device(model: nn.Module, fabric: Fabric) -> None:
    """Move a model to the fabric's device, in its layout."""
    model.to(device=fabric.device)
    if any(isinstance(part, nn.Conv2d) for part in model.modules()):
        model.to(memory_format=layout_of(model))


def rows_to_device(rows: Some, fabric: Fabric, layout: torch.memory_format) -> Some:
    """Move rows to the fabric's device; images take ``layout``."""

    def move(x: Tensor) -> Tensor:
        x = x.to(fabric.device, non_blocking=True)
        return x.contiguous(memory_format=layout) if x.dim() == 4 else x

    moved = {name: getattr(rows, name) for name in ("domain", "index", "y") if hasattr(rows, name)}
    moved = {name: value.to(fabric.device, non_blocking=True) for name, value in moved.items()}
    return replace(rows, x=move(rows.x), views=tuple(map(move, rows.views)), **moved)


def batch_to_device(batch: Batch, method: Method, fabric: Fabric) -> Batch:
    """Move a batch to the fabric's device, in the method's layout."""
    layout = layout_of(method)
    return replace(
        batch,
        labeled=rows_to_device(batch.labeled, fabric, layout),
        unlabeled=rows_to_device(batch.unlabeled, fabric, layout),
    )


class DataOnDevice:
    """Data as seen from the device: every batch is moved there on its way."""

    def __init__(self, data: Domains, method: Method, fabric: Fabric) -> None:
        self.data, self.method, self.fabric = data, method, fabric

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch from number ``start`` on, placed."""
        for batch in self.data.batches(needs, epoch, start):
            yield batch_to_device(batch, self.method, self.fabric)

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterator[Labeled]:
        """Give the rows of a split, placed."""
        layout = layout_of(self.method)
        for rows in self.data.scan(split, shuffled=shuffled):
            yield rows_to_device(rows, self.fabric, layout)

    def unlabeled(self, *, shuffled: bool = False) -> Iterator[Unlabeled]:
        """Give the unlabelled rows of the target, placed."""
        layout = layout_of(self.method)
        for rows in self.data.unlabeled(shuffled=shuffled):
            yield rows_to_device(rows, self.fabric, layout)

    def query_labels(self, index: Tensor) -> Tensor:
        """Give labels of unlabelled rows, placed."""
        return self.data.query_labels(index.cpu()).to(self.fabric.device)

    def steps(self, needs: Needs) -> int:
        """Count the batches of an epoch."""
        return self.data.steps(needs)


def cut_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into parts whose rows are as many as each other's, or one more.

    >>> index = torch.arange(5)
    >>> whole = Batch(Labeled(torch.zeros(5, 2), index, index, y=index))
    >>> [part.labeled.y.tolist() for part in cut_batch(whole, 2)]
    [[0, 1, 2], [3, 4]]
    """
    if parts == 1:
        return [batch]
    sides = zip(_cut(batch.labeled, parts), _cut(batch.unlabeled, parts), strict=True)
    return [replace(batch, labeled=one, unlabeled=other) for one, other in sides]


def _cut(rows: Some, parts: int) -> list[Some]:
    names = [name for name in ("x", "domain", "index", "y") if hasattr(rows, name)]
    split = [getattr(rows, name).tensor_split(parts) for name in names]
    views = [view.tensor_split(parts) for view in rows.views]
    return [
        replace(
            rows,
            views=tuple(view[at] for view in views),
            **{name: fields[at] for name, fields in zip(names, split, strict=True)},
        )
        for at in range(parts)
    ]


class RowBuffer:
    """Rows of several aligned tensors, kept behind each other as they come.

    What many small tensors would keep between large ones that come and go is memory that neither
    can use again.

    >>> rows = RowBuffer()
    >>> for part in torch.arange(5).split(2):
    ...     rows.add(part, part.float())
    >>> rows.all()[0].tolist(), len(rows.all()[1])
    ([0, 1, 2, 3, 4], 5)
    """

    def __init__(self) -> None:
        self.rooms: list[Tensor] = []
        self.count = 0

    def add(self, *parts: Tensor) -> None:
        """Put aligned rows behind those that are there."""
        count = self.count + len(parts[0])
        if not self.rooms or count > len(self.rooms[0]):
            grown = [part.new_empty((2 * count, *part.shape[1:])) for part in parts]
            for room, known in zip(grown, self.all(), strict=False):
                room[: self.count] = known
            self.rooms = grown
        for room, part in zip(self.rooms, parts, strict=True):
            room[self.count : count] = part
        self.count = count

    def all(self) -> list[Tensor]:
        """Give all rows of each tensor; nothing if none came."""
        return [room[: self.count] for room in self.rooms]
