"""Distances between two samples, by the means of their kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.class_features import class_sums
from adaptune.ops.rows import need_rows


def gaussian_kernels(
    x: Tensor, *, count: int = 5, base: float = 2.0, bandwidth: float | None = None
) -> Tensor:
    """Give the sum of ``count`` Gaussian kernels of every two rows of ``x`` (N, D): (N, N).

    Kernel i is ``exp(-d^2 / b_i)``; the ``b_i`` are ``base`` apart from each other, around
    ``bandwidth`` or, where none is given, the mean squared distance of two rows, through which no
    gradient goes. Computed in float32 at least. Places are refused, since all pairs are compared.

    Raises:
        ValueError: If ``x`` is not one row of features an example.

    >>> gaussian_kernels(torch.tensor([[0.0], [1.0]]), count=1)
    tensor([[1.0000, 0.3679],
            [0.3679, 1.0000]])
    """
    need_rows(x, "a discrepancy of kernels")
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        squares = torch.cdist(x, x).square()
        pairs = max(len(x) * (len(x) - 1), 1)
        given = squares.new_tensor(bandwidth or 0.0)
        middle = given if bandwidth is not None else squares.detach().sum() / pairs
        steps = base ** (torch.arange(count, device=x.device) - count // 2).to(squares)
        bandwidths = (middle * steps).clamp_min(torch.finfo(squares.dtype).tiny)
        return torch.exp(-squares / bandwidths[:, None, None]).sum(0)


def mmd(
    source: Tensor,
    target: Tensor,
    *,
    count: int = 5,
    base: float = 2.0,
    bandwidth: float | None = None,
) -> Tensor:
    """Give the squared maximum mean discrepancy of two samples, (N, D) and (M, D): a scalar.

    It is the plain estimate over all pairs, a row with itself included, so never below 0. Source:
    A Kernel Two-Sample Test (Gretton et al., 2012), several kernels as in Long et al., 2015.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> float(mmd(x, x)), round(float(mmd(x, x + 3)), 2)
    (0.0, 5.74)
    """
    kernels = gaussian_kernels(
        torch.cat([source, target]), count=count, base=base, bandwidth=bandwidth
    )
    ours = kernels.new_full((1, len(source)), 1 / len(source))
    theirs = kernels.new_full((1, len(target)), -1 / len(target))
    return _squared(torch.cat([ours, theirs], dim=1), kernels).sum()


def subset_mmd(
    features: Tensor,
    y: Tensor,
    others: Tensor,
    chosen: Tensor,
    *,
    count: int = 5,
    base: float = 2.0,
    bandwidth: float | None = None,
) -> Tensor:
    """Give the mean over classes of the `mmd` between the rows of a class and some other rows.

    ``features`` (N, D) have labels ``y`` (N,); class k is compared with the rows of ``others``
    (M, D) where ``chosen`` (K, M) says so. A class without rows on either side counts 0. All
    classes share the kernels of all rows.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> chosen = torch.eye(2, dtype=torch.bool)
    >>> float(subset_mmd(x, torch.tensor([0, 1]), x, chosen))
    0.0
    >>> float(subset_mmd(x, torch.tensor([0, 1]), x, ~chosen)) > 1
    True
    """
    kernels = gaussian_kernels(
        torch.cat([features, others]), count=count, base=base, bandwidth=bandwidth
    )
    members = F.one_hot(y, len(chosen)).T
    both = members.any(1, keepdim=True) & chosen.any(1, keepdim=True)
    ours, theirs = (_shares(one.to(kernels)) for one in (members, chosen))
    return _squared(torch.cat([ours, -theirs], dim=1) * both, kernels).mean()


def class_distance(source: Tensor, y: Tensor, target: Tensor, shares: Tensor) -> Tensor:
    """Give the mean squared distance of domains' and classes' means: over K + 1 of them.

    Rows of ``source`` (N, D) have labels ``y`` (N,), those of ``target`` (M, D) count for each
    class by ``shares`` (M, K). Source: KTF (Yao et al., 2025).

    >>> x = torch.tensor([[0.0], [2.0]])
    >>> class_distance(x, torch.tensor([0, 1]), x + 3, torch.eye(2))
    tensor(9.)
    """
    total, count = class_sums(source, y, shares.shape[1])
    ours = total / count.clamp_min(1).unsqueeze(1)
    tiny = torch.finfo(shares.dtype).tiny
    theirs = shares.T @ target / shares.sum(0).clamp_min(tiny).unsqueeze(1)
    both = (source.mean(0) - target.mean(0)).square().sum()
    return (both + (ours - theirs).square().sum()) / (shares.shape[1] + 1)


def _squared(weights: Tensor, kernels: Tensor) -> Tensor:
    """Give the squared length of the sum of rows in the kernels' space, by weights (K, N): (K,)."""
    with torch.autocast(kernels.device.type, enabled=False):
        return (weights @ kernels * weights).sum(1)


def _shares(rows: Tensor) -> Tensor:
    """Give the rows of each set the weight of a mean over it."""
    return rows / rows.sum(1, keepdim=True).clamp_min(1)
