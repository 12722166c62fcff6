"""Training spread over processes: each holds a part of every weight, gradient and moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.runtime.processes import rank_and_world
from adaptune.runtime.shards import whole

LISTS = (nn.Sequential, nn.ModuleList)
"""Modules whose items a network runs through one by one."""

BLOCK = 1 / 8
"""The largest share of a body's weights that is joined at a time, where its lists allow it."""

ALONE = "weights are not sharded: there is one process, which holds all of them"
"""What people should know who ask one process to share."""


class Sharding:
    """A method that is trained in shards, and the whole one that is handed back.

    ``trained`` is a twin of the method whose network's weights lie in parts, one in each process,
    by torch's ``fully_shard``: a block's weights are joined for its pass forward and its pass
    backward, its gradients are averaged into the parts, and the optimiser has these. ``whole`` is
    the method itself. It has weights while it is handed back, and none while its twin is trained.
    Where nothing is sharded both are the same, and nothing here does anything.
    """

    def __init__(self, method: Method, fabric: Fabric, *, asked: bool) -> None:
        self.whole = self.trained = method
        self.is_on = asked and rank_and_world()[1] > 1
        self.said = [ALONE] if asked and not self.is_on else []
        if self.is_on:
            self.trained = _twin(method)
            _shard(self.trained, fabric)

    @torch.no_grad()
    def release(self, state: dict[str, Any]) -> None:
        """Let go of the whole's weights, and of a state that was handed back with them."""
        if self.is_on:
            state.clear()
            for one in self.whole.parameters():
                one.data = one.new_empty(0)

    @torch.no_grad()
    def gather(self) -> None:
        """Give the whole the weights and buffers of its twin; all processes must ask."""
        if not self.is_on:
            return
        trained = dict(self.trained.named_parameters())
        for name, one in self.whole.named_parameters():
            one.data = whole(trained[name].detach())
        buffers = dict(self.trained.named_buffers())
        for name, buffer in self.whole.named_buffers():
            buffer.copy_(buffers[name])


def refuse_shards(method: Method, plan: Plan, fabric: Fabric) -> None:
    """Refuse to shard what cannot be, before anything is looked at.

    Raises:
        ValueError: If the plan asks for it, and method, plan or precision do not allow it.
    """
    if not plan.shard:
        return
    why = ""
    if not method.can_shard:
        why = (
            f"{type(method).__name__} asks more of its weights than its network's forward pass "
            "does, and shards can be joined there alone: leave out --shard, or take a method that "
            "is served (ft, lp-ft or daft)"
        )
    elif plan.compile:
        why = "sharded weights are joined by hooks, which --compile does not see: leave one out"
    elif plan.layout == "channels_last":
        why = "sharded weights lie contiguous: leave out --layout, or --shard"
    elif fabric.strategy.precision.state_dict():
        why = "float16's scaler was not tried on shards: give --precision bf16-mixed or 32-true"
    if why:
        raise ValueError(why)


def blocks_of(body: nn.Module) -> list[nn.Module]:
    """List the parts of a body whose weights are joined together, from its input on.

    They are items of lists (``nn.Sequential``, ``nn.ModuleList``), the largest that hold at most
    an eighth of the weights, and smaller items where only these are listed. Items without a
    matrix, such as a lone norm, and items that share a weight with others are none; they are
    joined with the rest of the body.

    >>> [type(one).__name__ for one in blocks_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))]
    ['Linear']
    """
    most = BLOCK * sum(one.numel() for one in body.parameters())
    uses = Counter(id(one) for _, one in body.named_parameters(remove_duplicate=False))
    found = list(_items(body, most))
    return [one for one in found if all(uses[id(weight)] == 1 for weight in one.parameters())]


def _items(module: nn.Module, most: float) -> Iterator[nn.Module]:
    for child in module.children():
        weights = list(child.parameters())
        is_item = isinstance(module, LISTS) and not isinstance(child, LISTS)
        is_block = is_item and any(one.dim() > 1 for one in weights)
        if is_block and sum(one.numel() for one in weights) <= most:
            yield child
            continue
        inner = list(_items(child, most))
        yield from inner or ([child] if is_block else [])


def _twin(method: Method) -> Method:
    """Copy a method but for its weights, which both have until those of the copy are sharded."""
    return deepcopy(method, {id(one): one for one in method.parameters()})


def _shard(method: Method, fabric: Fabric) -> None:
    """Part the weights of a method's network among all processes, in place."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(fabric.device.type, (rank_and_world()[1],))
    for one in method.net.parameters():
        one.data = one.data.contiguous()
    for module in (*blocks_of(method.net.body), method.net.body, method.net.head):
        module.register_forward_hook(_with_own_memory)  # ahead of torch's hook
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


def _with_own_memory(module: nn.Module, args: object, output: object) -> object:
    """Copy an answer that is a view: changed in place, it would lose the hook that joins weights.

    Such are features that were flattened.
    """
    del module, args
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output
