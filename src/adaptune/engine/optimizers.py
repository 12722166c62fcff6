"""Optimisers of a method's groups: which parameters move at which rate, and how they decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.networks.layer_groups import layer_shares, undecayed
from adaptune.networks.network import Network
from adaptune.runtime.shards import shard_like
from adaptune.types import Group


@dataclass(frozen=True)
class Moved:
    """Parameters that move at one full ``rate``, and decay or not."""

    params: list[Tensor]
    rate: float
    decays: bool = True


def moved_parts(method: Method, groups: list[Group], plan: Plan) -> list[Moved]:
    """Say what moves how fast: a method's groups, parted where a plan asks for it.

    Without layer-wise decay, and under SGD, there is one part a group.

    Raises:
        ValueError: If layer-wise decay is asked of a method that gives layers rates of its own, or
            of a network whose layers are not known.
    """
    shares: dict[Tensor, float] = {}
    if plan.layer_decay < 1 and groups:
        _refuse_rates(method, groups)
        shares = layer_shares(method.net, plan.layer_decay)
    still = undecayed(method) if plan.optimizer == "adamw" and plan.weight_decay else set()
    parts: dict[tuple[int, float, bool], list[Tensor]] = {}
    for number, group in enumerate(groups):
        params = trainable(group.module)
        if not params:  # states of earlier versions have a part for it
            parts[number, 1.0, True] = []
        for one in params:
            key = (number, shares.get(one, 1.0), one not in still)
            parts.setdefault(key, []).append(one)
    return [
        Moved(params, plan.rate(groups[number]) * share, decays)
        for (number, share, decays), params in parts.items()
    ]


def refuse_plan(method: Method, plan: Plan) -> None:
    """Refuse a plan that a method's groups cannot have, before anything is looked at.

    Raises:
        ValueError: If that is so; see `moved_parts`.
    """
    if plan.optimizer != "sgd" or plan.layer_decay < 1:
        moved_parts(method, method.groups(), plan)


def _refuse_rates(method: Method, groups: list[Group]) -> None:
    """Refuse a method with several rates for the body: whose of them decay would be unclear."""
    body = set(method.net.body.parameters())
    several = [one for one in groups if not body.isdisjoint(trainable(one.module))]
    if len(several) > 1:
        raise ValueError(
            f"{type(method).__name__} has rates of its own for {len(several)} parts of the body: "
            "leave out --layer-decay"
        )
    inside = (one for group in groups for one in group.module.modules())
    if any(isinstance(one, Network) and one is not method.net for one in inside):
        raise ValueError(
            f"{type(method).__name__} trains copies of the network: leave out --layer-decay"
        )


def optimizer_of(parts: list[Moved], plan: Plan, *, late: bool, scales: bool) -> Any:
    """Make the optimiser of a plan; one that is ``late`` can leave a step out by itself.

    AdamW is torch's fused one wherever no scaler of float16 reads for itself; SGD where it is late.
    """
    told = [
        {
            "params": part.params,
            "lr": part.rate,
            "weight_decay": plan.weight_decay if part.decays else 0.0,
        }
        for part in parts
    ]
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(told, betas=(plan.momentum, 0.999), fused=not scales)
    if not late:
        return torch.optim.SGD(told, momentum=plan.momentum)
    sgd = torch.optim.SGD(told, momentum=plan.momentum, fused=True)
    keep_order(sgd, fused=True)
    return sgd


def keep_order(optimizer: torch.optim.Optimizer, *, fused: bool) -> None:
    """Give moments the order in memory of their tensors; a late step must find SGD's there.

    Where a state was loaded, it may come from another device or layout.
    """
    sgd = isinstance(optimizer, torch.optim.SGD)
    for group in optimizer.param_groups:
        group["fused"] = fused or None
        for one in group["params"]:
            state = optimizer.state.get(one, {})
            for name, known in state.items():
                if torch.is_tensor(known) and known.shape == one.shape and name != "step":
                    state[name] = torch.empty_like(one).copy_(known)
            if "step" in state and not sgd:
                state["step"] = state["step"].to(one.device if fused else "cpu")
            if sgd and fused and group["momentum"] and state.get("momentum_buffer") is None:
                optimizer.state[one]["momentum_buffer"] = torch.zeros_like(one)


def sharded_moments(
    state: Mapping[int, Mapping[str, Any]], params: Sequence[Tensor]
) -> dict[int, dict[str, Any]]:
    """Give of a state with whole moments what this process holds, of parameters in their order."""

    def own(name: str, value: Any, one: Tensor) -> Any:
        is_moment = torch.is_tensor(value) and name != "step"
        return shard_like(value, one) if is_moment else value

    return {
        number: {name: own(name, value, params[number]) for name, value in moments.items()}
        for number, moments in state.items()
    }


def trainable(*modules: nn.Module) -> list[Tensor]:
    """List the parameters of ``modules`` that want gradients."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]
