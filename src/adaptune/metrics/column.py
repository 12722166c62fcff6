"""One number a row, kept for a whole set."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1024
"""Rows that there is room for from the first batch on."""


class Column:
    """Numbers (N,) that come batch by batch and lie in one tensor, on the device that they come on.

    Small tensors kept from every batch would lie between the large ones that a batch frees, and
    keep the allocator from using their room again: megabytes a batch for a few hundred bytes.

    >>> column = Column()
    >>> for part in (torch.ones(2), torch.zeros(1)):
    ...     column.add(part)
    >>> column.values()
    tensor([1., 1., 0.])
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.room = torch.empty(0, dtype=dtype)
        self.count = 0

    def add(self, values: Tensor) -> None:
        """Take the numbers of one batch."""
        wanted = self.count + len(values)
        if wanted > len(self.room) or self.room.device != values.device:
            larger = values.new_empty(max(LEAST, 2 * wanted), dtype=self.room.dtype)
            larger[: self.count] = self.values()
            self.room = larger
        self.room[self.count : wanted] = values
        self.count = wanted

    def values(self) -> Tensor:
        """Give all numbers so far, a view of their room."""
        return self.room[: self.count]

    def replace(self, values: Tensor) -> None:
        """Hold other numbers instead."""
        self.room, self.count = values, len(values)
