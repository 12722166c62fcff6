"""Clusters of a target matched with classes of a source, and a discrepancy of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.clustering import centroids, kmeans
from adaptune.ops.discrepancy import gaussian_kernels

NONE = -1
"""What stands for no class."""

LEAST = 3
"""A cluster of no more images than this is of no class."""


@dataclass(frozen=True)
class ClusterMatch:
    """Clusters of M rows: ``labels`` and ``clusters`` (M,) int64, ``centres`` (C, D) of length 1.

    A row whose cluster is matched with no class has the label `NONE`.
    """

    labels: Tensor
    clusters: Tensor
    centres: Tensor


class MatchedClusters(nn.Module):
    """What a match said of every row of a target, by its index, for ``most`` clusters at most.

    >>> held = MatchedClusters(rows=3, most=4, width=2)
    >>> match = ClusterMatch(torch.tensor([5, NONE]), torch.tensor([0, 1]), torch.eye(2))
    >>> held.take(match, torch.tensor([2, 0]))
    >>> held.labels.tolist(), round(float(held.loss(torch.eye(2), torch.tensor([2, 0]))), 4)
    ([-1, -1, 5], 0.0)
    """

    labels: Tensor
    clusters: Tensor
    centres: Tensor

    def __init__(self, *, rows: int, most: int, width: int) -> None:
        super().__init__()
        for name in ("labels", "clusters"):
            self.register_buffer(name, torch.full((rows,), NONE))
        self.register_buffer("centres", torch.zeros(most, width))

    def take(self, match: ClusterMatch, index: Tensor) -> None:
        """Take a match of the rows at ``index`` (M,)."""
        for room, rows in ((self.labels, match.labels), (self.clusters, match.clusters)):
            room.fill_(NONE)[index] = rows
        self.centres.zero_()[: len(match.centres)] = match.centres

    def loss(self, features: Tensor, index: Tensor, heat: float = 0.1) -> Tensor:
        """Ask rows (B, D) at ``index`` (B,) for their clusters, by cosines over ``heat``: a scalar.

        Source: Domain Consensus Clustering (Li et al., 2021).
        """
        cosines = F.normalize(features) @ self.centres.T / heat
        cosines = cosines.masked_fill(~self.centres.any(1), -torch.inf)
        return F.cross_entropy(cosines, self.clusters[index])


@torch.no_grad()
def match_clusters(
    source: Tensor, y: Tensor, target: Tensor, *, classes: int, counts: Sequence[int]
) -> ClusterMatch:
    """Match k-means clusters of a target (M, D) with classes, labels y (N,), of a source (N, D).

    All rows are scaled to length 1. A class and a cluster match if each is the other's nearest,
    centre to centre. Of the ``counts`` of clusters the one is taken whose matches have the largest
    consensus: the mean of the share of the class's rows nearest to the cluster, and of the
    cluster's rows nearest to the class. Source: Domain Consensus Clustering (Li et al., 2021), by
    its released code, which leaves clusters of three rows or fewer without a class; there counts
    rise step by step until the consensus falls.

    >>> source = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> target = torch.tensor([[1.0, 0.0]] * 4 + [[-1.0, 0.0]] * 4 + [[0.0, 1.0]])
    >>> found = match_clusters(source, torch.tensor([0, 0, 1]), target, classes=2, counts=[3])
    >>> found.labels.tolist(), len(found.centres)
    ([0, 0, 0, 0, -1, -1, -1, -1, -1], 3)
    """
    ours, theirs = F.normalize(source), F.normalize(target)
    own = F.normalize(centroids(ours, F.one_hot(y, classes).to(ours.dtype)))
    there = own.any(1)
    best, score = None, -1.0
    for count in counts:
        centres = F.normalize(kmeans(theirs, count))
        clusters = (theirs @ centres.T).argmax(1)
        alike = (own @ centres.T).masked_fill(~there.unsqueeze(1), -torch.inf)
        near = alike.argmax(1)
        matched = there & (alike.argmax(0)[near] == torch.arange(classes, device=near.device))
        to_clusters = _shares(y, (ours @ centres.T).argmax(1), classes, len(centres))
        nearest = (theirs @ own.T).masked_fill(~there, -torch.inf).argmax(1)
        to_classes = _shares(clusters, nearest, len(centres), classes)
        kind = matched.nonzero().squeeze(1)
        consensus = (to_clusters[kind, near[kind]] + to_classes[near[kind], kind]) / 2
        found = float(consensus.mean()) if len(kind) else 0.0
        if found > score:
            of = torch.full((len(centres),), NONE, device=near.device)
            of[near[kind]] = kind
            of[clusters.bincount(minlength=len(centres)) <= LEAST] = NONE
            best, score = ClusterMatch(of[clusters], clusters, centres), found
    assert best is not None
    return best


def _shares(groups: Tensor, nearest: Tensor, rows: int, columns: int) -> Tensor:
    """Give the share of each of so many groups that is nearest to each of so many columns."""
    members = F.one_hot(groups, rows).double()
    table = members.T @ F.one_hot(nearest, columns).double()
    return table / members.sum(0).clamp_min(1).unsqueeze(1)


def contrastive_discrepancy(
    source: Tensor, y: Tensor, target: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """Give how far classes are from themselves between domains, less how far from each other.

    Rows of a source (N, D) have classes y (N,), those of a target (M, D) ``labels`` (M,), or
    `NONE`. It is the mean over classes that both have of the squared maximum mean discrepancy of
    their rows, less its mean over pairs of different ones; 0 where none is shared. Source:
    Contrastive Adaptation Network (Kang et al., 2019), in which pairs of classes have widths of
    their own; here all rows share five kernels around one.

    >>> source, y = torch.tensor([[0.0], [4.0]]), torch.tensor([0, 1])
    >>> near, far = (contrastive_discrepancy(source, y, source, one, 2) for one in (y, 1 - y))
    >>> bool(near < 0 < far)
    True
    """
    kernels, count = gaussian_kernels(torch.cat([source, target])), len(source)
    ours = F.one_hot(y, classes).T.to(kernels)
    theirs = F.one_hot(labels + 1, classes + 1)[:, 1:].T.to(kernels)
    both = (ours.any(1) & theirs.any(1)).to(kernels)
    ours, theirs = (one / one.sum(1, keepdim=True).clamp_min(1) for one in (ours, theirs))
    within = (ours @ kernels[:count, :count] * ours).sum(1)
    among = (theirs @ kernels[count:, count:] * theirs).sum(1)
    apart = within.unsqueeze(1) + among - 2 * ours @ kernels[:count, count:] @ theirs.T
    pairs = torch.outer(both, both)
    return _mean_over(apart, both.diag()) - _mean_over(apart, pairs - both.diag())


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Give the mean of the values (K, K) that are ``chosen``, 0 or 1; 0 if none is."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
