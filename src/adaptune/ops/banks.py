"""Banks: what a network made of every row of a set, kept by the row's index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, isin, nn

from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import gather, gather_objects
from adaptune.types import Labeled, Unlabeled


@dataclass(frozen=True)
class Collected:
    """What a network said of rows in order: ``index`` (N,), ``features`` (N, D), logits (N, K)."""

    index: Tensor
    features: Tensor
    logits: Tensor


@torch.no_grad()
def collect(body: nn.Module, head: nn.Module, batches: Iterable[Unlabeled]) -> Collected:
    """Run a network over all rows once, in eval mode; of several processes each gets all rows.

    Raises:
        ValueError: If there are no rows.

    >>> x, row = torch.eye(2), torch.tensor([1, 0])
    >>> collect(nn.Identity(), nn.Identity(), [Unlabeled(x, row, row)]).features.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    parts = []
    with in_eval(body), in_eval(head):
        for batch in batches:
            features = body(batch.x)
            parts.append((batch.index, features.float(), head(features).float()))
    own = [torch.cat(part) for part in zip(*parts, strict=True)] or [torch.empty(0)] * 3
    index, features, logits = map(gather, own)
    if not len(index):
        raise ValueError(NOTHING)
    order = index.argsort(stable=True)
    return Collected(index[order], features[order], logits[order])


@torch.no_grad()
def collect_labeled(body: nn.Module, batches: Iterable[Labeled]) -> tuple[Tensor, Tensor]:
    """Give what a body makes of all rows, (N, D), in eval mode and in order, and their labels (N,).

    >>> x, row = torch.eye(2), torch.tensor([1, 0])
    >>> collect_labeled(nn.Identity(), [Labeled(x, row, row, y=row + 5)])
    (tensor([[0., 1.],
            [1., 0.]]), tensor([5, 6]))
    """
    told: list[tuple[Tensor, Tensor]] = []

    def noted() -> Iterator[Labeled]:
        for rows in batches:
            told.append((rows.index, rows.y))
            yield rows

    features = collect(body, nn.Identity(), noted()).features
    none = torch.empty(0, dtype=torch.int64)
    index, y = map(gather, [torch.cat(part) for part in zip(*told, strict=True)] or [none, none])
    return features, y[index.argsort(stable=True)]


NOTHING = "the target gave no image: it is empty, or no file could be read"


def bank_size(batches: Iterable[Unlabeled]) -> tuple[int, tuple[int, ...]]:
    """Give how many places a bank of these rows has, the largest index and one, and a row's shape.

    Raises:
        ValueError: If there are no rows.

    >>> row = torch.arange(3)
    >>> bank_size([Unlabeled(torch.zeros(3, 1), row, row)])
    (3, (1,))
    """
    own = [(int(some.index.max()) + 1, tuple(some.x.shape[1:])) for some in batches if len(some)]
    found = [one for theirs in gather_objects(own) for one in theirs]
    if not found:
        raise ValueError(NOTHING)
    return max(found)


def pick(batches: Iterable[Unlabeled], wanted: Tensor) -> Tensor:
    """Give the examples of given indices (W,), in that order, (W, ...).

    Raises:
        ValueError: If one of them is not there.

    >>> row = torch.arange(3)
    >>> pick([Unlabeled(10.0 * row, row, row)], torch.tensor([2, 0]))
    tensor([20.,  0.])
    """
    found = [(some.index[at], some.x[at]) for some in batches for at in [isin(some.index, wanted)]]
    own = [torch.cat(part) for part in zip(*found, strict=True)] or [torch.empty(0)] * 2
    index, rows = map(gather, own)
    if len(index) != len(wanted):
        raise ValueError(f"of {len(wanted)} images that are wanted again {len(index)} were given")
    order = index.argsort()
    picked: Tensor = rows[order][torch.searchsorted(index[order], wanted)]
    return picked


def scatter_rows(index: Tensor, rows: Tensor, places: int = 0) -> Tensor:
    """Put rows (N, ...) at their indices; the others, of files that could not be read, are zero.

    >>> scatter_rows(torch.tensor([2, 0]), torch.tensor([5, 7])).tolist()
    [7, 0, 5]
    """
    room = rows.new_zeros(max(places, int(index.max()) + 1), *rows.shape[1:])
    room[index] = rows
    return room


@torch.no_grad()
def update_rows_(room: Tensor, index: Tensor, rows: Tensor) -> None:
    """Write rows (B, ...) into a bank at ``index`` (B,), in place; those of all processes.

    Of rows with one index the last counts, on any device, so that all processes hold the same.

    >>> room = torch.zeros(3)
    >>> update_rows_(room, torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
    >>> room
    tensor([0., 2., 0.])
    """
    index, rows = gather(index), gather(rows.detach().to(room.dtype))
    number = torch.arange(len(index), device=index.device)
    last = index.new_zeros(len(room)).scatter_reduce_(0, index, number, "amax")
    room[index] = rows[last[index]]


@torch.no_grad()
def neighbours(rows: Tensor, room: Tensor, own: Tensor, number: int) -> Tensor:
    """Find for rows (B, D) those of a bank (N, D) with the largest cosine, (B, ``number``).

    ``own`` (B,) is each row's place in the bank, which is not its neighbour. They are fewer where
    the bank has no more. Source: the neighbourhoods of Yang et al., 2021.

    >>> room = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
    >>> neighbours(room[:1], room, torch.tensor([0]), 1)
    tensor([[1]])
    """
    alike = F.normalize(rows.to(room.dtype)) @ F.normalize(room).T
    alike.scatter_(1, own.unsqueeze(1), -torch.inf)
    return alike.topk(min(number, len(room) - 1), dim=1).indices


def attraction(chances: Tensor, near: Tensor) -> Tensor:
    """Give how much predictions (B, K) are like those of their neighbours (B, M, K), a scalar.

    The mean over rows of sum_j p_i . p_j. Source: AaD, Yang et al., 2022, as in SF(DA)^2, 2024.

    >>> attraction(torch.tensor([[1.0, 0.0]]), torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))
    tensor(1.5000)
    """
    return torch.einsum("nk,njk->nj", chances, near).sum(1).mean()


def crowding(chances: Tensor) -> Tensor:
    """Give how much the predictions of a batch (B, K) are like each other's, a scalar.

    The mean over rows of sum_{j != i} (p_i . p_j)^2. Source: SF(DA)^2, Hwang et al., 2024.

    >>> crowding(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor(0.2500)
    """
    alike = (chances @ chances.T).square()
    return (alike - alike.diagonal().diag_embed()).sum(1).mean()
