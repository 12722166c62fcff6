"""Clusters of features: centroids that a network's predictions give, and those found by k-means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.runtime.processes import add_up, broadcast_from_first

MOST_ROWS = 2000
"""More rows than this are not compared with each other for a silhouette."""


def centroids(features: Tensor, weights: Tensor) -> Tensor:
    """Give the mean of features (N, D) by each column of weights (N, K), (K, D); zero if empty.

    >>> centroids(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist()
    [[1.0], [0.0]]
    """
    total = weights.sum(0).clamp_min(torch.finfo(weights.dtype).tiny)
    return (weights.T @ features) / total.unsqueeze(1)


@torch.no_grad()
def centroid_labels(features: Tensor, probabilities: Tensor, rounds: int = 2) -> Tensor:
    """Label features (N, D) by the centroid of the largest cosine, (N,) int64.

    The centroids are those of `class_directions`. Source: SHOT, Liang et al., 2020.

    >>> rows = torch.tensor([[1.0], [0.9], [-1.0]])
    >>> sure = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]])
    >>> centroid_labels(rows, sure).tolist()
    [0, 0, 1]
    """
    size = features.shape[1], probabilities.shape[1]
    known = class_directions(lambda: [(features, probabilities)], *size, rounds=rounds)
    return nearest_direction(features, known)


@torch.no_grad()
def class_directions(
    opened: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    width: int,
    classes: int,
    *,
    rounds: int = 2,
) -> Tensor:
    """Give the direction of each class's centroid, (K, D + 1) on the CPU; zero where it has none.

    Features have a one appended and are scaled to length 1. Centroids are first weighed by the
    predictions, then by the labels that they gave themselves, ``rounds`` passes in all. A class
    that nothing was assigned to takes no part any more. No more than a batch is kept, and sums are
    in float64; of several processes each may have a share of the rows, or all of them. Source:
    SHOT, Liang et al., 2020.

    Args:
        opened: Gives rows in batches, features (N, D) and probabilities (N, K), in every round.
        width: D.
        classes: K.
        rounds: How many passes.

    >>> rows, sure = torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    >>> class_directions(lambda: zip(rows.split(1), sure.split(1)), 1, 2).round(decimals=1).tolist()
    [[0.7, 0.7], [-0.7, 0.7]]
    """
    known = torch.empty(0)
    for turn in range(rounds):
        sums = torch.zeros(classes, width + 1, dtype=torch.float64)
        counts = torch.zeros(classes, dtype=torch.int64)
        for features, probabilities in opened():
            weights, labels = probabilities, probabilities.argmax(1)
            if turn:
                labels = nearest_direction(features, known)
                weights = F.one_hot(labels, classes).to(probabilities.dtype)
            sums += (weights.T @ _unit_rows(features)).cpu()
            counts += torch.bincount(labels, minlength=classes).cpu()
        there = add_up(counts) > 0
        known = F.normalize(add_up(sums)) * there.unsqueeze(1)
    return known


def nearest_direction(features: Tensor, directions: Tensor) -> Tensor:
    """Label features (N, D) by the direction of the largest cosine, (N,) int64; see above.

    >>> nearest_direction(torch.tensor([[3.0], [-3.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    tensor([0, 0])
    """
    alike = _unit_rows(features) @ directions.to(features).T
    return alike.masked_fill(~directions.to(features).any(1), -torch.inf).argmax(1)


def _unit_rows(features: Tensor) -> Tensor:
    return F.normalize(F.pad(features, (0, 1), value=1.0))


def centre_rows(rows: Tensor) -> Tensor:
    """Take the mean from rows (N, D), so that cosines tell directions apart, after a ReLU too.

    >>> centre_rows(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return rows - rows.mean(0)


def kmeans(rows: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """Give ``count`` centres of rows (N, D) by scikit-learn, fewer where fewer rows differ.

    Of several processes the first finds them; all must have the same rows.

    >>> kmeans(torch.tensor([[0.0], [0.2], [5.0]]), 2).sort(0).values.flatten()
    tensor([0.1000, 5.0000])
    """
    centres = broadcast_from_first(partial(_clustered, rows, count, seed))[0]
    return centres.to(rows)


def cluster_count(rows: Tensor, counts: Sequence[int], *, seed: int = 0) -> int:
    """Give the count of clusters of rows (N, D) whose k-means has the largest silhouette.

    Of more than 2,000 rows, 2,000 are compared, drawn with a fixed seed. Source: Rousseeuw, 1987.

    Raises:
        ValueError: If there are fewer than two rows.

    >>> rows = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0], [9.1]])
    >>> cluster_count(rows, [2, 3, 4])
    3
    """
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} image makes no clusters: give the target more images")
    return broadcast_from_first(
        lambda: max(counts, key=lambda count: _silhouette(rows, count, seed))
    )


def _silhouette(rows: Tensor, count: int, seed: int) -> float:
    from sklearn.metrics import silhouette_score

    random = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(rows), generator=random)[:MOST_ROWS]
    labels = _clustered(rows, count, seed)[1][some]
    if not 1 < len(set(labels.tolist())) < len(labels):
        return -1.0
    return float(silhouette_score(rows.cpu()[some].numpy(), labels.numpy()))


def _clustered(rows: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Give centres (C, D) and each row's centre (N,), on the CPU."""
    from sklearn.cluster import KMeans

    there = rows.detach().cpu().numpy()
    count = min(count, len(np.unique(there, axis=0)))
    found = KMeans(count, n_init=1, random_state=seed).fit(there)
    return torch.from_numpy(found.cluster_centers_), torch.from_numpy(found.labels_).long()


@torch.no_grad()
def one_vs_all(
    features: Tensor, probabilities: Tensor, *, clusters: int, floor: float = 0.75
) -> Tensor:
    """Give each row (N, D) a class, one-hot, or none, uniform, by clusters for and against, (N, K).

    For each class the N / ``clusters`` rows that the predictions (N, K) give most to it make a
    positive prototype, the others as many negative ones by k-means. A row is of the class of the
    nearest positive prototype if, weighed by the class's prior, it beats the negative ones; priors
    run from ``floor`` to 1. Source: GLC, Qu et al., 2023.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, -1.0]])
    >>> sure = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.5, 0.5]])
    >>> one_vs_all(rows, sure, clusters=2).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5]]
    """
    rows, classes = F.normalize(features), probabilities.shape[1]
    order = probabilities.argsort(dim=0, descending=True, stable=True)
    best = max(1, len(rows) // clusters)
    positive = F.normalize(torch.stack([rows[top].mean(0) for top in order[:best].T]))
    prior = floor + (1 - floor) * probabilities.gather(0, order[:best]).mean(0)
    against = []
    for others in order[best:].T:
        negative = F.normalize(kmeans(rows[others], clusters))
        against.append((rows @ negative.T).amax(1))
    alike = rows @ positive.T
    nearest = alike.argmax(1, keepdim=True)
    known = (prior * alike > torch.stack(against, 1)).gather(1, nearest)
    single = torch.zeros_like(probabilities).scatter_(1, nearest, 1.0)
    return torch.where(known, single, torch.full_like(single, 1 / classes))


def farthest_rows(rows: Tensor, count: int) -> Tensor:
    """Choose ``count`` rows (N, ...) that lie far apart, int64 (count,).

    The first is the one farthest from the mean, each further one that whose distance to all chosen
    before is largest. Where there are fewer rows, all are chosen again and again.

    >>> farthest_rows(torch.tensor([[0.0], [1.0], [5.0], [9.0]]), 3).tolist()
    [3, 0, 2]
    """
    rows = rows.flatten(1)
    apart = (rows - rows.mean(0)).square().sum(1)
    chosen: list[Tensor] = []
    for _ in range(min(count, len(rows))):
        chosen.append(apart.argmax())
        distance = (rows - rows[chosen[-1]]).square().sum(1)
        apart = distance if len(chosen) == 1 else torch.minimum(apart, distance)
        apart = apart.index_fill(0, chosen[-1], -1.0)
    own = torch.stack(chosen)
    return own[torch.arange(count, device=rows.device) % len(own)]
