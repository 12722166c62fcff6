"""Categories of many columns in one table of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

import torch
from torch import Tensor, nn

PRIME = 2**31 - 1
"""What hashes are computed modulo; products of two numbers below fit into int64."""


class MultiplexedTable(nn.Module):
    """Features of rows of categories, all columns of which share one table of ``rows`` vectors.

    Values (N, F), int64 from 0, such as those of `category_values`, are hashed by functions of
    their column's own, ``((a v + b) mod p) mod rows``, which ``seed`` draws. Column f is looked up
    ``lookups[f]`` times, by as many functions, and what is found is concatenated: (N, ``width``
    times all lookups). So values of all columns collide at the same rate, and a value that was
    never seen needs no further row. A linear layer above tells columns apart, by a block of weights
    for each. Source: Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML
    Systems (Coleman et al., 2023). Which family of hash functions, the vectors' first deviation
    (``width ** -0.5``) and everything that ``shared`` says are ours.

    Args:
        rows: The vectors of the table.
        width: The numbers of a vector.
        lookups: How many vectors each column has.
        seed: What draws the hash functions.
        shared: Whether columns share the table; or else every lookup has an equal part of it to
            itself, as hash tables of one column have: the rival of as many parameters.

    Raises:
        ValueError: If there is no column, or a table has no row.

    >>> table = MultiplexedTable(100, 4, [1, 2])
    >>> table(torch.tensor([[7, 7], [7, 8]])).shape, table.width
    (torch.Size([2, 12]), 12)
    """

    columns: Tensor
    factor: Tensor
    shift: Tensor
    begins: Tensor

    def __init__(
        self, rows: int, width: int, lookups: Sequence[int], *, seed: int = 0, shared: bool = True
    ) -> None:
        super().__init__()
        count = sum(lookups)
        self.rows = rows if shared else rows // max(1, count)
        if not count or min(lookups) < 1 or not 1 <= self.rows < PRIME or width < 1:
            raise ValueError(
                f"a table needs a row for each part, and every column a lookup: got {rows} rows of "
                f"{width} numbers and lookups {list(lookups)}; give more rows"
            )
        draw = torch.Generator().manual_seed(seed)
        numbers = torch.arange(len(lookups)).repeat_interleave(torch.tensor(lookups))
        self.register_buffer("columns", numbers)
        self.register_buffer("factor", torch.randint(1, PRIME, (count,), generator=draw))
        self.register_buffer("shift", torch.randint(PRIME, (count,), generator=draw))
        self.register_buffer("begins", torch.arange(count) * (0 if shared else self.rows))
        self.table = nn.Embedding(rows, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.width = width * count

    def places(self, values: Tensor) -> Tensor:
        """Give the rows of the table at which values (N, F) are looked up, (N, lookups)."""
        own = values[:, self.columns] % PRIME
        return (own * self.factor + self.shift) % PRIME % self.rows + self.begins

    def forward(self, values: Tensor) -> Tensor:
        """Make features (N, ``self.width``) of values (N, F)."""
        found: Tensor = self.table(self.places(values))
        return found.flatten(1)


def category_values(rows: Iterable[Sequence[str]]) -> Tensor:
    """Give a number below 2**32 for every category, by its text alone: int64 (N, F).

    >>> category_values([["red", "round"], ["red", "long"]])[:, 0].unique().numel()
    1
    """
    return torch.tensor([[crc32(one.encode("utf-8", "surrogatepass")) for one in r] for r in rows])
