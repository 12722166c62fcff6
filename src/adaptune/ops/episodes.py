"""Episodes within a batch: classes that are known, their support, queries, and what is unknown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.class_features import class_sums

SMALL = 1e-8


@dataclass(frozen=True)
class Episode:
    """Which rows (N,) of a batch are what, all bool, and which ``classes`` (W,) are known."""

    classes: Tensor
    support: Tensor
    known: Tensor
    unknown: Tensor


def draw_episode(
    y: Tensor, target: Tensor, *, classes: int, ways: int, shots: tuple[int, int]
) -> Episode:
    """Draw an episode of rows with labels y (N,), of a source or a ``target`` (N,) bool.

    Of the classes that both domains have, ``ways`` are known at most. Of each, in each domain, as
    many rows as ``shots`` says for source and target, and at most half of them and one, are the
    support; the other rows are known queries. Rows of all other classes are unknown.

    >>> y, target = torch.tensor([0, 0, 0, 1, 0, 0]), torch.tensor([0, 0, 0, 0, 1, 1]).bool()
    >>> found = draw_episode(y, target, classes=2, ways=3, shots=(4, 1))
    >>> found.classes.tolist(), found.support.sum().item(), found.unknown.tolist()[3]
    ([0], 3, True)
    """
    members = F.one_hot(y, classes).bool()
    shared = members[target].any(0) & members[~target].any(0)
    order = torch.rand(classes, device=y.device).masked_fill(~shared, -1.0).argsort(descending=True)
    chosen = order[:ways][shared[order[:ways]]]
    there = torch.zeros_like(shared).index_fill(0, chosen, True)[y]
    alike = (y.unsqueeze(1) == y) & (target.unsqueeze(1) == target)
    draw = torch.rand(len(y), device=y.device)
    rank = (alike & (draw < draw.unsqueeze(1))).sum(1)
    most = torch.where(target, shots[1], shots[0])
    support = there & (rank < torch.minimum(most, (alike.sum(1) + 1) // 2))
    return Episode(chosen, support, there & ~support, ~there)


def class_means(rows: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """Give the mean of rows (N, D) of each of some ``classes`` (W,), (W, D).

    >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2]), torch.tensor([0]))
    tensor([[2.]])
    """
    members = (y == classes.unsqueeze(1)).to(rows)
    return members @ rows / members.sum(1, keepdim=True).clamp_min(1)


def mean_squares(rows: Tensor, prototypes: Tensor) -> Tensor:
    """Give the mean squared difference of rows (N, D) from prototypes (W, D), (N, W).

    >>> mean_squares(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    tensor([[2., 0.]])
    """
    return (rows.unsqueeze(1) - prototypes).square().mean(2)


def prototype_triplet(squares: Tensor, own: Tensor, margin: float) -> Tensor:
    """Give by how far prototypes are nearer to others than to their own rows, less a margin.

    ``squares`` (N, W) are distances, ``own`` (N, W) bool whose rows they are. The mean over
    prototypes of the mean of their own less the mean of the others, plus ``margin``, at least 0.
    Source: DAFOS-Net (Pal et al., 2023), by its code.

    >>> squares = torch.tensor([[0.0, 4.0], [4.0, 0.0]])
    >>> [float(prototype_triplet(squares, torch.eye(2).bool(), one)) for one in (0.5, 5.0)]
    [0.0, 1.0]
    """
    yes, no = own.to(squares), (~own).to(squares)
    near = (squares * yes).sum(0) / yes.sum(0).clamp_min(1)
    far = (squares * no).sum(0) / no.sum(0).clamp_min(1)
    return ((near - far).mean() + margin).clamp_min(0)


def collapse(low: Tensor, high: Tensor, noise: Tensor, other: Tensor) -> Tensor:
    """Give how much less rows made of two noises differ than these do: 0 or more is to go down.

    The mean of 1 + log((1 - cos(noise, other)) / (1 - cos(low, high))). Source: DAFOS-Net (Pal et
    al., 2023).

    >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> collapse(one, other, one, other)
    tensor(1.)
    """
    made = 1 - F.cosine_similarity(low, high) + SMALL
    given = 1 - F.cosine_similarity(noise, other) + SMALL
    return 1 + (given / made).log().mean()


@dataclass(frozen=True)
class Asked:
    """What queries (Q, D) are asked of prototypes ``means`` (W, D) of one domain.

    ``squares`` (Q, W) are their distances, ``own`` (Q, W) says which prototype is a query's; that
    of an outlier is none.
    """

    means: Tensor
    squares: Tensor
    own: Tensor


def ask(
    rows: Tensor, y: Tensor, made: tuple[Tensor, Tensor], episode: Episode, side: Tensor
) -> Asked:
    """Ask the queries of a domain, the rows (N, D) on its ``side`` (N,) bool, for their prototypes.

    ``made`` are two features (N, D) for each row: the first joins the support, the second the
    outliers. Source: DAFOS-Net (Pal et al., 2023).

    >>> rows, side = torch.tensor([[0.0], [2.0], [9.0]]), torch.ones(3, dtype=torch.bool)
    >>> only = [torch.tensor([row == at for row in range(3)]) for at in range(3)]
    >>> episode, y = Episode(torch.tensor([0]), *only), torch.tensor([0, 0, 1])
    >>> found = ask(rows, y, (rows, rows + 5), episode, side)
    >>> found.means.tolist(), found.squares.tolist(), found.own.tolist()
    ([[0.0]], [[4.0], [81.0], [25.0]], [[True], [False], [False]])
    """
    held, known, other = (side & one for one in (episode.support, episode.known, episode.unknown))
    support = torch.cat([rows[held], made[0][held]])
    means = class_means(support, y[held].repeat(2), episode.classes)
    squares = mean_squares(torch.cat([rows[known], rows[other], made[1][held]]), means)
    own = y[known].unsqueeze(1) == episode.classes
    return Asked(means, squares, F.pad(own, (0, 0, 0, len(squares) - len(own))))


def nearest_squares(squares: Tensor, number: int) -> Tensor:
    """Give the ``number`` smallest of distances (Q, W) in order, the last again if they are fewer.

    >>> nearest_squares(torch.tensor([[3.0, 1.0]]), 3).tolist()
    [[1.0, 3.0, 3.0]]
    """
    order = squares.sort(1).values[:, :number]
    return torch.cat([order, order[:, -1:].expand(-1, number - order.shape[1])], 1)


def asked_terms(
    ours: Asked, theirs: Asked, outliers: nn.Module, sides: nn.Module, *, ways: int, scale: float
) -> dict[str, Tensor]:
    """Give the terms of an episode in two domains, unweighted: all but the triplet's are means.

    Known queries are asked for their prototype by a softmax over ``-scale`` times distances; the
    networks read the ``ways`` smallest of these and say by one logit what is an outlier, and what
    is theirs. Prototypes are aligned by the square of the difference of their means. Source:
    DAFOS-Net (Pal et al., 2023).
    """
    squares, own = torch.cat([ours.squares, theirs.squares]), torch.cat([ours.own, theirs.own])
    side = torch.arange(len(squares), device=squares.device) >= len(ours.squares)
    near = scale * nearest_squares(squares, ways)
    picked = (-scale * squares).log_softmax(1)[own]
    return {
        "task": -picked.sum() / max(len(picked), 1),
        "outlier": _told(outliers(near), ~own.any(1)),
        "domain": _told(sides(near), side),
        "triplet": 0.075 * prototype_triplet(ours.squares, ours.own, 0.5)
        + 0.125 * prototype_triplet(theirs.squares, theirs.own, 0.5),
        "align": (ours.means.mean(1) - theirs.means.mean(1)).square().mean(),
    }


def _told(logits: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), truth.to(logits))


def follow(prototypes: Tensor, rows: Tensor, y: Tensor, keep: float) -> Tensor:
    """Give prototypes (K, D) that follow the means of rows (N, D) of their classes y (N,).

    So much is kept of what there was; one of zeros was not there, one without rows stays.

    >>> before = torch.tensor([[4.0], [0.0], [7.0]])
    >>> follow(before, torch.tensor([[2.0], [6.0]]), torch.tensor([0, 1]), 0.5).tolist()
    [[3.0], [6.0], [7.0]]
    """
    total, count = class_sums(rows, y, len(prototypes))
    new = (total / count.clamp_min(1).unsqueeze(1)).to(prototypes)
    known = prototypes.any(1, keepdim=True)
    mixed = torch.where(known, keep * prototypes + (1 - keep) * new, new)
    return torch.where(count.unsqueeze(1) > 0, mixed, prototypes)
