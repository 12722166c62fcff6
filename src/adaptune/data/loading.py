"""How rows become batches: in which order, by whom they are read, and with which randomness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaptune.data.cache import Cache, Fresh, Store, store_of
from adaptune.data.sample import Sample, Unreadable
from adaptune.ops.places import BEYOND
from adaptune.runtime.limits import MOST, SEEDS, check_range
from adaptune.runtime.seeds import seed_for
from adaptune.runtime.signals import ignore_signals

Item = TypeVar("Item")
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

Key = tuple[int, int]
"""A row, and the seed of what is random about it."""

Stacked = tuple[Tensor, Tensor, Tensor]
"""Inputs (N, ...), labels (N, ...) and rows of the data set (N,)."""


class RowSource(Protocol):
    """Rows that are asked for by number and by the seed of what is random about them."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: Key) -> Sample | Unreadable: ...


class EmptyRows:
    """No rows at all."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, key: Key) -> Sample | Unreadable:
        raise IndexError(f"there are no rows here, and row {key[0]} was asked for")


class MultiView:
    """Rows that come as several independent views, the first as it would come alone.

    ``x`` is then (views, ...).
    """

    def __init__(self, rows: RowSource, views: int) -> None:
        self.rows, self.views = rows, views
        self.store: Store = getattr(rows, "store", store_of("none"))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Sample | Unreadable:
        row, seed = key
        seen: list[Sample] = []
        for view in range(self.views):
            item = self.rows[row, seed_for(seed, view) if view else seed]
            if isinstance(item, Unreadable):
                return item
            seen.append(item)
        return torch.stack([x for x, _, _ in seen]), seen[0][1], row


def quietly(items: Iterable[Item], label: str, total: int) -> Iterable[Item]:
    """Pass items on without showing any progress."""
    del label, total
    return items


MOST_WORKERS = 256
"""The most processes that read images for one that trains."""


@dataclass(frozen=True)
class Loading:
    """How batches are made.

    Args:
        batch_size: Images in a training batch, over all processes that train together.
        workers: Processes that read images beside each one that trains.
        seed: What decides the order of images and their augmentation.
        cache: Where decoded images are kept, so that each file is decoded once: nowhere, in this
            process's memory, or in a folder of the user's that later runs read too.
        balanced: Take as many training images of each class, from each labelled domain; images of
            rare classes come several times an epoch, some of frequent ones wait for another.
        strict: Make a file that cannot be read an error; otherwise it is named and left out. Of
            several processes the one that meets it stops, and their launcher ends the others.
        track: What wraps every pass over data, for those who show progress.
    """

    batch_size: int = 64
    workers: int = 0
    seed: int = 0
    cache: Cache = "none"
    balanced: bool = False
    strict: bool = False
    track: Track = quietly

    def __post_init__(self) -> None:
        check_range("--batch-size", self.batch_size, 1, MOST)
        check_range("--workers", self.workers, 0)
        check_range("--seed", self.seed, *SEEDS)
        if self.workers > MOST_WORKERS:
            raise ValueError(
                f"{self.workers} workers would fill the memory: give at most {MOST_WORKERS}, and "
                "as many as there are cores to begin with"
            )


def shuffled_keys(count: int, seed: int, epoch: int, *salt: int) -> list[Key]:
    """Give the rows of an epoch in its order, which depends on seed, epoch and salt alone.

    >>> sorted(row for row, _ in shuffled_keys(4, seed=0, epoch=1))
    [0, 1, 2, 3]
    """
    generator = torch.Generator().manual_seed(seed_for(seed, epoch, -1, *salt))
    order = torch.randperm(count, generator=generator).tolist()
    return [(row, seed_for(seed, epoch, row, *salt)) for row in order]


def group_keys(keys: Sequence[Key], size: int) -> list[list[Key]]:
    """Cut rows into groups of ``size``; the last has what is left.

    >>> group_keys([(0, 0), (1, 0), (2, 0)], 2)
    [[(0, 0), (1, 0)], [(2, 0)]]
    """
    return [list(keys[at : at + size]) for at in range(0, len(keys), size)]


def load_groups(
    rows: RowSource,
    groups: Sequence[list[Key]],
    loading: Loading,
    label: str,
    *,
    filled: bool = False,
) -> Iterator[tuple[Stacked | None, list[Unreadable]]]:
    """Read rows group by group: what could be read of each, nothing if that is none, and the rest.

    Labels of several sizes are ``filled`` up, see `stack_samples`. The random numbers of whoever
    reads along are left alone.
    """
    store: Store = getattr(rows, "store", store_of("none"))
    loader: DataLoader[Any] = DataLoader(
        Groups(rows, store, filled=filled),
        batch_sampler=groups,
        num_workers=min(loading.workers, len(groups)),
        collate_fn=identity,
        worker_init_fn=ignore_signals,
        generator=torch.Generator().manual_seed(loading.seed),  # else it draws from the global one
        # Not is_available: by now the network lies where batches will go.
        pin_memory=torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]
    )
    for stack, broken, fresh in loading.track(loader, label, len(groups)):
        store.keep(fresh)
        yield stack, broken


class Groups(Dataset[Any]):
    """Rows that are read a group at a time, with what was decoded for the first time."""

    def __init__(self, rows: RowSource, store: Store, *, filled: bool) -> None:
        self.rows, self.store, self.filled = rows, store, filled

    def __getitems__(self, keys: list[Key]) -> tuple[Stacked | None, list[Unreadable], list[Fresh]]:
        """Give what could be read of a group, what could not, and what is to be kept."""
        stack, broken = stack_samples([self.rows[key] for key in keys], filled=self.filled)
        return stack, broken, self.store.handed_over()


def identity(group: Item) -> Item:
    """Give a group as it was read.

    >>> identity((1, []))
    (1, [])
    """
    return group


def stack_samples(
    items: Sequence[Sample | Unreadable], *, filled: bool = False
) -> tuple[Stacked | None, list[Unreadable]]:
    """Stack what could be read; list what could not.

    Masks (H, W) of several sizes are ``filled`` up to the largest with `BEYOND`, if that is asked
    for; all else must be of one size.
    """
    broken = [item for item in items if isinstance(item, Unreadable)]
    good = [item for item in items if not isinstance(item, Unreadable)]
    if not good:
        return None, broken
    x, y, row = zip(*good, strict=True)
    y = _filled(y) if filled and all(one.dim() == 2 for one in y) else y
    for what, values in (("inputs", x), ("labels", y)):
        odd = [at for at, one in enumerate(values) if one.shape != values[0].shape]
        if odd:
            shapes = f"{tuple(values[0].shape)} and {tuple(values[odd[0]].shape)}"
            reason = f"their {what} are {shapes}: let the data set make them all of one size"
            return None, [Unreadable(f"rows {row[0]} and {row[odd[0]]}", reason, stops=True)]
    return (torch.stack(x), torch.stack(y), torch.tensor(row)), broken


def _filled(masks: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Fill masks (H, W) up to the height and the width of the largest, below and to the right."""
    height, width = (max(one.shape[axis] for one in masks) for axis in (0, 1))
    return tuple(
        F.pad(one, (0, width - one.shape[1], 0, height - one.shape[0]), value=BEYOND)
        for one in masks
    )
