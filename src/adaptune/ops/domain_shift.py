"""How alike images of a class are within a domain, and how far two domains lie apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptune.ops.information import entropy
from adaptune.ops.rows import need_rows


@dataclass(frozen=True)
class ClassMixtures:
    """The mean distribution of each class of a domain, in float64.

    ``means`` (K, D) sum to 1 along D, and are 0 where a class has no row; ``entropies`` (K,) are
    the mean entropy of its rows' own distributions, ``counts`` (K,) their number.
    """

    means: Tensor
    entropies: Tensor
    counts: Tensor


def class_mixtures(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> ClassMixtures:
    """Take in features (N, D) with labels (N,), batch by batch; labels of no class are left out.

    An example's distribution is the softmax of its features.

    Raises:
        ValueError: If there is no batch, or if features are not one row an example.
    """
    total: Tensor | None = None
    spread, counts = torch.zeros(classes).double(), torch.zeros(classes).double()
    for features, labels in batches:
        need_rows(features, "a measure of domain shift")
        known = ((labels >= 0) & (labels < classes)).cpu()
        seen, kind = features.detach().cpu().double()[known], labels.cpu()[known]
        if total is None:
            total = seen.new_zeros(classes, seen.shape[1])
        total.index_add_(0, kind, seen.softmax(1))
        spread.index_add_(0, kind, entropy(seen))
        counts += torch.bincount(kind, minlength=classes)
    if total is None:
        raise ValueError("a measure of domain shift needs images, and there are none")
    often = counts.clamp_min(1)
    return ClassMixtures(total / often.unsqueeze(1), spread / often, counts)


def class_variation(domain: ClassMixtures) -> float:
    """Give how much images of a class differ within a domain, ICV, in nats: 0 where all are equal.

    It is the mean over classes of the Jensen-Shannon divergence of all images of a class: the
    entropy of their mean distribution less the mean of their entropies. Source: Luo et al., 2024.
    Its abstract says that ICV describes how consistent the classes of a domain are, IDD how similar
    two domains, and a summary of it that both stand on this divergence; its formulas were not at
    hand. That distributions are softmaxes of features, and this form for any number, is ours.

    >>> alike = class_mixtures([(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))], 1)
    >>> far = class_mixtures([(torch.tensor([[99.0, 0.0], [0.0, 99.0]]), torch.tensor([0, 0]))], 1)
    >>> class_variation(alike), round(class_variation(far), 4)
    (0.0, 0.6931)
    """
    seen = domain.counts > 0
    each = _entropies(domain.means[seen]) - domain.entropies[seen]
    return max(0.0, float(each.mean())) if len(each) else float("nan")


def domain_distance(domain: ClassMixtures, other: ClassMixtures) -> float:
    """Give how far two domains lie apart, IDD, in nats: 0 of equal ones, at most ln 2.

    It is the mean over the classes that both have of the Jensen-Shannon divergence of the class's
    mean distributions; not a number where they share none. Source: Luo et al., 2024, of which the
    same is known as of `class_variation`.

    >>> one, two = (class_mixtures([(torch.eye(2) * 99 + shift, torch.tensor([0, 1]))], 2)
    ...     for shift in (0.0, torch.tensor([[0.0, 99.0], [99.0, 0.0]])))
    >>> domain_distance(one, one), round(domain_distance(one, two), 4)
    (0.0, 0.2158)
    """
    both = (domain.counts > 0) & (other.counts > 0)
    ours, theirs = domain.means[both], other.means[both]
    apart = _entropies((ours + theirs) / 2) - (_entropies(ours) + _entropies(theirs)) / 2
    return max(0.0, float(apart.mean())) if len(apart) else float("nan")


def _entropies(shares: Tensor) -> Tensor:
    entropies: Tensor = torch.special.entr(shares).sum(1)
    return entropies
