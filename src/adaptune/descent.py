"""How things move: the one owner of optimisers, learning rates and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.faults import NonFinite, nonfinite_gradients
from adaptune.method import Method
from adaptune.ops.processes import everyone, mean_over_processes_
from adaptune.ops.processes import place as process
from adaptune.ops.synchronized import SynchronizedBatchNorm
from adaptune.types import Between, Group, Objective


@dataclass(frozen=True)
class Plan:
    """How long to train and how steps are taken and kept; rates belong to the method.

    Args:
        epochs: Passes over the training images.
        momentum: Momentum of stochastic gradient descent.
        weight_decay: Weight decay, in the gradient.
        warmup: The share of the run in which rates rise, before they fall along a cosine to zero.
        clip: The largest norm of the gradient; by default it is not bounded.
        sync_batchnorm: Let batch norms see the batches of all processes as one.
        on_nonfinite: What to do when the loss or a gradient is not finite: stop the run, or skip
            the step and count it.
        checkpoint_minutes: How often what resuming needs is saved within an epoch, in minutes.
        seed: What decides every random number of the run.
    """

    epochs: int = 10
    momentum: float = 0.9
    weight_decay: Annotated[float, Between(1e-6, 1e-2)] = 0.0
    warmup: float = 0.0
    clip: float | None = None
    sync_batchnorm: bool = True
    on_nonfinite: Literal["stop", "skip"] = "stop"
    checkpoint_minutes: float = 10.0
    seed: int = 0

    def pace(self, progress: float) -> float:
        """Give the share of the full rate at ``progress`` (0 to 1) of the run.

        >>> [round(Plan().pace(p), 2) for p in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
        >>> Plan(warmup=0.5).pace(0.25)
        0.5
        """
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def rate(self, group: Group) -> float:
        """Give a group's full rate.

        With momentum m the effective rate is ``rate / (1 - m)``, and plain descent is stable up to
        ``2 / curvature``.

        >>> round(Plan(momentum=0.9).rate(Group(nn.Identity(), rate=1.0, curvature=20.0)), 6)
        0.01
        """
        if group.curvature is None:
            return group.rate
        return group.rate * (1 - self.momentum) * 2 / group.curvature


class Descent:
    """Take steps down an objective. The only place that touches an optimiser."""

    def __init__(self, method: Method, plan: Plan, fabric: Fabric) -> None:
        self.method, self.plan, self.fabric = method, plan, fabric
        self.share = 1.0
        groups = method.groups()
        moved = [trainable(group.module) for group in groups]
        self.rates = [plan.rate(group) for group in groups]
        self.trusts = [
            (parameters, group.trust / rate)
            for parameters, group, rate in zip(moved, groups, self.rates, strict=True)
            if math.isfinite(group.trust) and rate > 0
        ]
        self.params = [parameter for parameters in moved for parameter in parameters]
        self.optimizer: Any = None
        if self.params:
            parts = [{"params": p, "lr": rate} for p, rate in zip(moved, self.rates, strict=True)]
            sgd = torch.optim.SGD(parts, momentum=plan.momentum, weight_decay=plan.weight_decay)
            self.optimizer = fabric.setup_optimizers(sgd)

    def at(self, progress: float, rows: int = 1) -> None:
        """Set the rates for this point of the run, 0 to 1, and how many rows this process has."""
        counts = torch.cat(everyone(torch.tensor([float(rows)])))
        self.share = rows / float(counts.mean())
        if self.optimizer is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * self.plan.pace(progress)

    def __call__(self, evaluate: Callable[[], Objective], *modules: nn.Module) -> Objective:
        """Evaluate an objective and move ``modules`` (by default all groups) one step down it."""
        params = trainable(*modules) if modules else self.params
        self.optimizer.zero_grad(set_to_none=True)
        together = SynchronizedBatchNorm() if self.plan.sync_batchnorm else nullcontext()
        with torch.enable_grad(), self.fabric.autocast(), together:
            done = evaluate()
        broken = [name for name, term in done.terms.items() if not bool(term.isfinite().all())]
        self.fabric.backward(done.total * self.share, inputs=params)
        fault = torch.tensor(float(bool(broken)))
        mean_over_processes_([fault, *_gradients(params)])
        if broken:
            value = float(done.terms[broken[0]].detach().sum())
            raise NonFinite(f"the term {broken[0]!r} is {value}")
        if fault > 0:
            raise NonFinite("a term of the objective is not finite in another process")
        if self.plan.clip is not None or self.trusts:
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        self._refuse_nonfinite(params)
        if self.plan.clip is not None:
            nn.utils.clip_grad_norm_(params, self.plan.clip)
        for parameters, share in self.trusts:
            clip_to_share_(parameters, share)
        self.optimizer.step()
        return done

    def _refuse_nonfinite(self, params: Sequence[Tensor]) -> None:
        """Refuse gradients that are not finite; a scaler of float16 skips such steps itself."""
        if self.fabric.strategy.precision.state_dict():
            return
        gradients = _gradients(params)
        if not gradients or bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all()):
            return
        names = nonfinite_gradients(self.method)
        self.optimizer.zero_grad(set_to_none=True)
        raise NonFinite(
            f"the gradients of {len(names)} tensors, such as {names[-1]}, are not finite"
        )

    def state_dict(self) -> dict[str, Any]:
        """Give the state of the optimiser, and that of the scaler of float16."""
        if self.optimizer is None:
            return {}
        scaler = self.fabric.strategy.precision.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:
                self.fabric.strategy.precision.load_state_dict(state["scaler"])


def _gradients(params: Sequence[Tensor]) -> list[Tensor]:
    """List gradients; of several processes each gives one for every parameter, if only zeros."""
    if process()[1] > 1:
        for parameter in params:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in params if parameter.grad is not None]


SMALLEST = 1e-3
"""Tensors whose entries are smaller than this on average may move as if they were this large."""


@torch.no_grad()
def clip_to_share_(parameters: Sequence[Tensor], share: float) -> None:
    """Shorten each tensor's gradient to at most ``share`` of the tensor's own norm.

    A tensor that is (nearly) zero counts as one with entries of 0.001. Source: adaptive gradient
    clipping (Brock et al., 2021), by tensor rather than by unit.

    >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> weight.grad = torch.tensor([0.0, 10.0])
    >>> clip_to_share_([weight], 0.1)
    >>> weight.grad
    tensor([0.0000, 0.5000])
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    if not moved:
        return
    norms = torch.stack(torch._foreach_norm(moved))
    least = torch.tensor([SMALLEST * parameter.numel() ** 0.5 for parameter in moved]).to(norms)
    lengths = torch.stack(torch._foreach_norm(gradients))
    shorter = share * norms.maximum(least) / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    for gradient, factor in zip(gradients, shorter.clamp_max(1.0).unbind(), strict=True):
        gradient.mul_(factor)


def trainable(*modules: nn.Module) -> list[Tensor]:
    """List the parameters of ``modules`` that want gradients."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]
