"""Sets read once, in order or shuffled, in whole batches that processes share out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from adaptune.data.ledger import Ledger
from adaptune.data.loading import (
    EmptyRows,
    Key,
    Loading,
    MultiView,
    RowSource,
    Stacked,
    group_keys,
    shuffled_keys,
)
from adaptune.data.missing import refuse_unreadable
from adaptune.data.sides import labeled_side, unlabeled_side
from adaptune.runtime.processes import rank_and_world
from adaptune.types import Labeled, Split, Unlabeled


@dataclass(frozen=True)
class SplitReader:
    """Reads sets once; of w processes, process r gets the whole batches r, r + w, ...

    ``parts`` says how many rows of a split each labelled domain has, where there are several.
    """

    sets: Mapping[Split, RowSource]
    parts: Mapping[Split, tuple[int, ...]]
    loading: Loading
    ledger: Ledger

    def scan(self, split: Split, *, shuffled: bool) -> Iterator[Labeled]:
        """Give every row of a split."""
        rows = self.sets.get(split, EmptyRows())
        return self._labeled(rows, self._keys(rows, shuffled=shuffled), split)

    def sample(self, split: Split, number: int) -> Iterator[Labeled]:
        """Give at most ``number`` rows of a split, spread evenly over it."""
        rows = self.sets.get(split, EmptyRows())
        every = max(1.0, len(rows) / number)
        keys = [(int(at * every), 0) for at in range(min(number, len(rows)))]
        return self._labeled(rows, keys, split)

    def test(
        self, rows: RowSource, name: str, domain: int, *, ends: Sequence[int] = (), alone: bool
    ) -> Iterator[Labeled]:
        """Give every row of a test set; masks are filled up to the size of the largest of a batch.

        Domains are numbered from ``domain`` on, each but the last up to its end. Rows that stand
        ``alone`` are a batch each.
        """
        size = 1 if alone else self.loading.batch_size
        stacks = self.read(rows, in_order(rows), f"reading {name}", size=size, filled=True)
        return (labeled_side(stack, domain, ends) for stack in stacks)

    def unlabeled(self, rows: RowSource, domain: int, *, shuffled: bool) -> Iterator[Unlabeled]:
        """Give every row of a target, without what stands for its label."""
        keys = self._keys(rows, shuffled=shuffled)
        for stack in self.read(MultiView(rows, 1), keys, "reading target"):
            yield unlabeled_side(stack, domain)

    def read(
        self, rows: RowSource, keys: list[Key], label: str, *, size: int = 0, filled: bool = False
    ) -> Iterator[Stacked]:
        """Give this process's batches, but those of which nothing could be read.

        They have ``size`` rows, by default those of the loading.

        Raises:
            ValueError: If nothing at all could be read.
        """
        rank, world = rank_and_world()
        groups = group_keys(keys, size or self.loading.batch_size)[rank::world]
        readable = not groups
        for stack in self.ledger.load(rows, groups, self.loading, label, filled=filled):
            if stack is not None:
                readable = True
                yield stack
        if not readable:
            refuse_unreadable(rows, label)

    def _keys(self, rows: RowSource, *, shuffled: bool) -> list[Key]:
        return shuffled_keys(len(rows), self.loading.seed, -1) if shuffled else in_order(rows)

    def _labeled(self, rows: RowSource, keys: list[Key], split: Split) -> Iterator[Labeled]:
        ends = domain_ends(self.parts, split)
        return (labeled_side(stack, 0, ends) for stack in self.read(rows, keys, f"reading {split}"))


def in_order(rows: RowSource) -> list[Key]:
    """Give all rows in their order.

    >>> in_order(EmptyRows())
    []
    """
    return [(row, 0) for row in range(len(rows))]


def domain_ends(parts: Mapping[Split, tuple[int, ...]], split: Split) -> list[int]:
    """Say where each labelled domain of a split ends, but the last.

    >>> domain_ends({"train": (3, 2, 4)}, "train"), domain_ends({}, "train")
    ([3, 5], [])
    """
    return list(accumulate(parts.get(split, ())))[:-1]
