"""Tensors of which each process holds a part: whether one is so, its whole, the part of a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adaptune.runtime.processes import is_first


def is_shard(tensor: Tensor) -> bool:
    """Tell whether a process holds but a part of a tensor (torch's ``DTensor``).

    >>> is_shard(torch.ones(2))
    False
    """
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Give all of a tensor: itself, or what the processes hold of it, joined; then all must ask.

    >>> whole(torch.ones(2))
    tensor([1., 1.])
    """
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def joined(named: Mapping[str, Any]) -> dict[str, Any]:
    """Give values with whole tensors: where one is a shard, in the first process' host memory.

    Then all must ask, they are joined one at a time, and the other processes get nothing.

    >>> joined({"step": 3, "moment": torch.ones(2)})
    {'step': 3, 'moment': tensor([1., 1.])}
    """
    if not any(torch.is_tensor(one) and is_shard(one) for one in named.values()):
        return dict(named)
    kept = {}
    for name, one in named.items():
        value = whole(one).cpu() if torch.is_tensor(one) else one
        if is_first():
            kept[name] = value
    return kept


def shard_like(full: Tensor, model: Tensor) -> Tensor:
    """Give of a whole what a process holds of ``model``, on its device; all must ask.

    >>> shard_like(torch.ones(2), torch.zeros(2))
    tensor([1., 1.])
    """
    if not is_shard(model):
        return full
    from torch.distributed.tensor import distribute_tensor

    told: Any = model
    return distribute_tensor(full.to(model.device), told.device_mesh, told.placements)


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Give the norm of each tensor, (T,), of shards that of their whole; of none, an error.

    >>> norms_of([torch.tensor([3.0, 4.0]), torch.zeros(2)])
    tensor([5., 0.])
    """
    return whole(torch.stack(torch._foreach_norm(list(tensors))))
