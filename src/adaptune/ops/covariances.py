"""Covariances class by class, kept while training, and what augmenting along them would cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.clustering import centroids


@dataclass(frozen=True)
class ClassMoments:
    """Rows counted (K,), their means (K, D) and covariances (K, D, D) by number of rows."""

    count: Tensor
    mean: Tensor
    covariance: Tensor


def class_moments(features: Tensor, labels: Tensor, classes: int) -> ClassMoments:
    """Measure rows (N, D) class by class; a class without rows has zeros.

    >>> rows = torch.tensor([[0.0], [2.0]])
    >>> class_moments(rows, torch.tensor([1, 1]), 2).covariance.flatten().tolist()
    [0.0, 1.0]
    """
    members = F.one_hot(labels, classes).to(features.dtype)
    count = members.sum(0)
    mean = (members.T @ features) / count.clamp_min(1).unsqueeze(1)
    apart = features - mean[labels]
    scatter = torch.einsum("nk,nd,ne->kde", members, apart, apart)
    return ClassMoments(count, mean, scatter / count.clamp_min(1)[:, None, None])


def merge(one: ClassMoments, other: ClassMoments) -> ClassMoments:
    """Give the moments of the rows of both, exactly. Source: Chan, Golub and LeVeque, 1983.

    >>> a, b = (class_moments(torch.tensor([[v]]), torch.tensor([0]), 1) for v in (0.0, 2.0))
    >>> merge(a, b).covariance.item()
    1.0
    """
    count = one.count + other.count
    share = other.count / count.clamp_min(1)
    apart = other.mean - one.mean
    between = apart.unsqueeze(2) * apart.unsqueeze(1)
    own, theirs, both = (part[:, None, None] for part in (1 - share, share, share * (1 - share)))
    return ClassMoments(
        count,
        one.mean + share.unsqueeze(1) * apart,
        own * one.covariance + theirs * other.covariance + both * between,
    )


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """Give the squared distance of the covariances of (N, D) and (M, D), over ``4 D ^ 2``: CORAL.

    Covariances are divided by one less than their rows; that of one row is 0. Source: Deep CORAL,
    Sun and Saenko, 2016.

    >>> x = torch.tensor([[0.0], [2.0]])  # variances 2 and 18
    >>> covariance_distance(x, 3 * x), covariance_distance(x, x + 5)
    (tensor(64.), tensor(0.))
    """
    ours, theirs = (_unbiased(one) for one in (source, target))
    return (ours - theirs).square().sum() / (4 * source.shape[1] ** 2)


def _unbiased(rows: Tensor) -> Tensor:
    apart = rows - rows.mean(0)
    return apart.T @ apart / max(len(rows) - 1, 1)


def augmented_loss(
    logits: Tensor, labels: Tensor, weight: Tensor, covariance: Tensor, strength: float
) -> Tensor:
    """Bound what endless augmentation along the classes' covariances would lose, row by row (N,).

    2 sum_c CE(z^c, c) with z^c_k = logits_k + strength / 2 (w_k - w_c) S (w_k - w_c)^T, where S is
    the covariance (K, D, D) of the row's class in ``labels`` (N,) and w the rows of the head's
    ``weight`` (K, D). Without covariance it is the plain sum. Source: SF(DA)^2, Hwang et al., 2024,
    after ISDA (Wang et al., 2019).

    >>> none = torch.zeros(2, 1, 1)
    >>> row, weight = torch.zeros(1, 2), torch.ones(2, 1)
    >>> augmented_loss(row, torch.tensor([0]), weight, none, 1.0)  # 4 ln 2
    tensor([2.7726])
    """
    cross = torch.einsum("kd,yde,ce->ykc", weight, covariance, weight)
    own = cross.diagonal(dim1=1, dim2=2)
    spread = own.unsqueeze(1) + own.unsqueeze(2) - cross - cross.transpose(1, 2)
    raised = logits.unsqueeze(1) + strength / 2 * spread[labels]
    return 2 * (raised.logsumexp(2) - logits).sum(1)


def separation(covariance: Tensor, scores: Tensor) -> Tensor:
    """Give how far apart the covariances (K, D, D) of classes are that are taken for each other.

    1/2 sum_{i != j} (1 - cos(S_i, S_j)) (m_i . m_j), where m_c is the mean of the predictions
    ``scores`` (N, K) whose largest is c; rows of zeros do not count. Source: SF(DA)^2, Hwang et
    al., 2024.

    >>> apart = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    >>> separation(apart, torch.tensor([[0.5, 0.5], [0.4, 0.6]])).item()
    0.5
    """
    members = F.one_hot(scores.argmax(1), len(covariance)) * scores.sum(1, keepdim=True)
    means = centroids(scores, members)
    flat = F.normalize(covariance.flatten(1))
    apart = (1 - flat @ flat.T) * (means @ means.T)
    return (apart.sum() - apart.trace()) / 2
