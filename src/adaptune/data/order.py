"""Which rows are in which batch of an epoch: every domain's share, in an order by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adaptune.data.loading import Key, group_keys, shuffled_keys
from adaptune.runtime.seeds import seed_for


@dataclass(frozen=True)
class BatchShare:
    """One domain's share of every batch: ``size`` of its ``count`` rows, which begin at ``first``.

    ``salt`` makes its order and its augmentation others than those of other shares. Where the rows'
    ``classes`` are given, all of these come as often (`balanced_keys`).
    """

    first: int
    count: int
    size: int
    salt: tuple[int, ...] = ()
    classes: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """Count the batches that its rows fill; a share that fills none is one.

        >>> BatchShare(0, 10, 4).steps, BatchShare(0, 3, 4).steps
        (2, 1)
        """
        return max(1, self.count // self.size)

    def once(self, seed: int, epoch: int) -> list[Key]:
        """Give all rows once, in the epoch's order."""
        return self._round(0, seed, epoch)

    def again(self, steps: int, seed: int, epoch: int) -> list[list[Key]]:
        """Fill ``steps`` batches; rows that run out begin again in another order."""
        keys: list[Key] = []
        number = 0
        while self.count and len(keys) < steps * self.size:
            keys += self._round(number, seed, epoch)
            number += 1
        return group_keys(keys[: steps * self.size], self.size)

    def _round(self, number: int, seed: int, epoch: int) -> list[Key]:
        salt = (*(self.salt or (0,)), number) if self.salt or number else ()
        if self.classes:
            keys = balanced_keys(self.classes, seed, epoch, *salt)
        else:
            keys = shuffled_keys(self.count, seed, epoch, *salt)
        return [(self.first + row, own) for row, own in keys]


def balanced_keys(classes: Sequence[int], seed: int, epoch: int, *salt: int) -> list[Key]:
    """Give as many rows as there are, all classes as often, by seed, epoch and salt alone.

    Classes take turns, in another order each time round, so that they are even in every batch.
    Rows of a class come in an order of their own, and again in another, varied anew, where they run
    out; of a class that has more than its share some rows wait for another epoch.

    >>> [row > 2 for row, _ in balanced_keys([0, 0, 0, 1], seed=0, epoch=0)].count(True)
    2
    """
    generator = torch.Generator().manual_seed(seed_for(seed, epoch, -1, *salt))
    members: dict[int, list[int]] = {}
    for row, kind in enumerate(classes):
        members.setdefault(kind, []).append(row)
    waiting: dict[int, list[int]] = {kind: [] for kind in members}
    times = dict.fromkeys(members, -1)
    turn: list[int] = []
    keys: list[Key] = []
    while len(keys) < len(classes):
        turn = turn or _shuffled(sorted(members), generator)
        kind = turn.pop()
        if not waiting[kind]:
            waiting[kind] = _shuffled(members[kind], generator)
            times[kind] += 1
        row = waiting[kind].pop()
        again = (times[kind], -3) if times[kind] else ()
        keys.append((row, seed_for(seed, epoch, row, *salt, *again)))
    return keys


def _shuffled(items: Sequence[int], generator: torch.Generator) -> list[int]:
    return [items[at] for at in torch.randperm(len(items), generator=generator).tolist()]


@dataclass(frozen=True)
class BatchPlan:
    """The rows of each batch of an epoch, and ``spare`` ones in the order in which they step in.

    What follows batch n in the epoch begins at n + 1 times the first batch's length.
    """

    groups: list[list[Key]]
    spare: list[Key]


def batch_shares(counts: Sequence[int], size: int, classes: Sequence[int] = ()) -> list[BatchShare]:
    """Cut batches of ``size`` into equal parts for domains that lie one after the other.

    What is left over goes to the first ones. Where the ``classes`` of all rows are given, each part
    is balanced over those of its domain.

    Raises:
        ValueError: If a batch has fewer rows than there are domains.

    >>> [(share.first, share.count, share.size) for share in batch_shares([30, 8], 5)]
    [(0, 30, 3), (30, 8, 2)]
    """
    if size < len(counts):
        raise ValueError(
            f"a batch of {size} images cannot hold some of each of {len(counts)} labelled domains: "
            "give a larger --batch-size"
        )
    each, rest = divmod(size, len(counts))
    firsts = [sum(counts[:at]) for at in range(len(counts))]
    return [
        BatchShare(
            first,
            count,
            each + (at < rest),
            (at,) if at else (),
            tuple(classes[first : first + count]),
        )
        for at, (first, count) in enumerate(zip(firsts, counts, strict=True))
    ]


def batch_plan(
    shares: Sequence[BatchShare], steps: int, seed: int, epoch: int, *, alone: bool
) -> BatchPlan:
    """Lay out the batches of one side; ``alone`` says that its one share is all there is.

    Then no row comes twice in an epoch, unless classes are balanced, and a share smaller than a
    batch is one batch; otherwise the longest share of either side decides how many ``steps`` there
    are and the others are filled.
    """
    if alone:
        (share,) = shares
        spare = share.once(seed, epoch)
        return BatchPlan(group_keys(spare[: steps * share.size], share.size), spare)
    parts = [share.again(steps, seed, epoch) for share in shares]
    groups = [[key for part in step for key in part] for step in zip(*parts, strict=True)]
    return BatchPlan(groups, [key for group in groups for key in group])


def share_of_process(groups: list[list[Key]], rank: int, world: int) -> list[list[Key]]:
    """Give one of ``world`` processes its part of every batch.

    Raises:
        ValueError: If a batch has fewer rows than there are processes.

    >>> share_of_process([[(5, 0), (6, 0), (7, 0)]], 0, 2)
    [[(5, 0), (7, 0)]]
    """
    if groups and len(groups[0]) < world:
        raise ValueError(
            f"a batch of {len(groups[0])} images cannot be shared by {world} processes, each of "
            "which needs one: give a larger --batch-size, more images, or fewer processes"
        )
    return [group[rank::world] for group in groups]
