"""Features as long vectors of signs, bundled by class, and how far others are from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def encode(features: Tensor, projection: Tensor) -> Tensor:
    """Give features (N, D) as hypervectors, (N, H) of -1 and 1: the signs of random projections.

    ``projection`` is (H, D). Zero counts as above.

    >>> encode(torch.tensor([[1.0, -2.0]]), torch.eye(2))
    tensor([[ 1., -1.]])
    """
    return torch.where(features @ projection.T >= 0, 1.0, -1.0).to(features)


def bundle(codes: Tensor, y: Tensor, classes: int) -> Tensor:
    """Add up the hypervectors (N, H) of each class: (K, H), zeros where a class has none.

    >>> bundle(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([1, 1]), 2).tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """
    return F.one_hot(y, classes).to(codes).T @ codes


def strangeness(codes: Tensor, bundles: Tensor) -> Tensor:
    """Give 1 minus the largest cosine of each hypervector (N, H) with a class's (K, H): (N,).

    >>> strangeness(torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0, -3.0], [1.0, 1.0]])).round()
    tensor([0.])
    """
    return 1 - (F.normalize(codes, dim=1) @ F.normalize(bundles, dim=1).T).amax(1)


def own_strangeness(codes: Tensor, y: Tensor, bundles: Tensor) -> Tensor:
    """Give the strangeness of hypervectors that are among the bundles, as if they were not: (N,).

    >>> codes = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    >>> own_strangeness(codes, torch.tensor([0, 0]), bundle(codes, torch.tensor([0, 0]), 1)).round()
    tensor([0., 0.])
    """
    whole = F.normalize(codes, dim=1) @ F.normalize(bundles, dim=1).T
    others = F.cosine_similarity(codes, bundles[y] - codes, dim=1)
    return 1 - whole.scatter(1, y[:, None], others[:, None]).amax(1)


def patterns(active: Tensor) -> Tensor:
    """Score an untrained layer by how differently rows switch its units on, (N, U): a scalar.

    It is the log-determinant of the share of units on which two rows agree, with 1 added on the
    diagonal, so that rows alike count a little. Source: after NASWOT (Mellor et al., 2021).

    >>> alike, apart = torch.ones(2, 4), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    >>> bool(patterns(alike > 0) < patterns(apart > 0))
    True
    """
    signs = active.double() * 2 - 1
    agree = (signs @ signs.T / active.shape[1] + 1) / 2
    found: Tensor = torch.linalg.slogdet(agree + torch.eye(len(agree)).to(agree)).logabsdet
    return found
