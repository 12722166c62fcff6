"""Weights of rows by how likely they are."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptune.runtime.processes import add_up


def shares(told: Tensor, rows: Tensor) -> Tensor:
    """Give rows weights in proportion to ``exp(told)`` (N,), whose mean over ``rows`` (N,) is 1.

    The mean is that of all processes; rows that are not among ``rows``, bool, have 0.

    >>> shares(torch.tensor([0.0, 0.0, 9.0]), torch.tensor([True, True, False])).tolist()
    [1.0, 1.0, 0.0]
    """
    own: Tensor = told.exp() * rows
    total, count = add_up(torch.stack([own.sum(), rows.sum().to(own)]))
    weights: Tensor = own * count / total.clamp_min(torch.finfo(own.dtype).tiny)
    return weights
