"""How things move: the one owner of optimisers, learning rates and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.faults import Check, lone_values_explained
from adaptune.limits import MOST, SEEDS, within
from adaptune.method import Method
from adaptune.ops.processes import everyone, gradients_of, mean_over_processes_
from adaptune.ops.processes import place as process
from adaptune.ops.synchronized import synchronized_batch_norm
from adaptune.rules import SMALLEST, Sharp, climb, climbed, to_share, uncounted
from adaptune.types import Between, Group, Layout, Objective

Evaluate = Callable[[], Objective]


@dataclass(frozen=True)
class Plan:
    """How long to train and how steps are taken and kept; rates belong to the method.

    Args:
        epochs: Passes over the training images.
        momentum: Momentum of stochastic gradient descent.
        weight_decay: Weight decay, in the gradient.
        warmup: The share of the run in which rates rise, before they fall along a cosine to zero.
        clip: The largest norm of the gradient; by default it is not bounded.
        accumulate: Parts that a batch is cut into, whose gradients add up to one step; it takes
            less memory. Batch norms in train mode see one part at a time.
        layout: How images lie in memory: what a trial at the start finds faster, or what is given.
        compile: Let torch.compile make the network faster; it takes a C++ compiler.
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
    accumulate: int = 1
    layout: Layout = "auto"
    compile: bool = False
    sync_batchnorm: bool = True
    on_nonfinite: Literal["stop", "skip"] = "stop"
    checkpoint_minutes: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        within("--epochs", self.epochs, 1, MOST)
        within("--momentum", self.momentum, 0, 1, below=True)
        within("--weight-decay", self.weight_decay, 0)
        within("--warmup", self.warmup, 0, 1, below=True)
        within("--clip", self.clip, 0, above=True)
        within("--accumulate", self.accumulate, 1, MOST)
        within("--checkpoint-minutes", self.checkpoint_minutes, 0)
        within("--seed", self.seed, *SEEDS)

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
        if not group.curvature > 0:
            raise ValueError("no rate fits training images that all look alike: give more of them")
        return group.rate * (1 - self.momentum) * 2 / group.curvature


class Descent:
    """Take steps down an objective. The only place that touches an optimiser.

    Whether something is not finite is read before the step on the CPU, where that is free. On a
    GPU a step that must not be taken is left out there, without asking: its ``checks`` are to be
    read later, and ``late`` says so. A scaler of float16 reads for itself.
    """

    def __init__(self, method: Method, plan: Plan, fabric: Fabric) -> None:
        self.method, self.plan, self.fabric = method, plan, fabric
        self.scales = bool(fabric.strategy.precision.state_dict())
        self.late = fabric.device.type == "cuda" and not self.scales
        self.share, self.parts = 1.0, 1
        groups = method.groups()
        moved = [trainable(group.module) for group in groups]
        self.rates = [plan.rate(group) for group in groups]
        self.trusts = {
            parameter: group.trust / rate
            for parameters, group, rate in zip(moved, groups, self.rates, strict=True)
            if math.isfinite(group.trust) and rate > 0
            for parameter in parameters
        }
        self.params = [parameter for parameters in moved for parameter in parameters]
        self.optimizer: Any = None
        if self.params:
            parts = [{"params": p, "lr": rate} for p, rate in zip(moved, self.rates, strict=True)]
            self.optimizer = fabric.setup_optimizers(self._sgd(parts))
        self.bounds: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self.blocked = torch.zeros(1, device=fabric.device)
        self.checks: list[Check] = []
        self.part(1.0, first=True, last=True)

    def _sgd(self, parts: list[dict[str, Any]]) -> torch.optim.SGD:
        momentum, decay = self.plan.momentum, self.plan.weight_decay
        if not self.late:
            return torch.optim.SGD(parts, momentum=momentum, weight_decay=decay)
        sgd = torch.optim.SGD(parts, momentum=momentum, weight_decay=decay, fused=True)
        self._ready(sgd)
        return sgd

    def _ready(self, sgd: torch.optim.Optimizer) -> None:
        """Give momentum the order in memory of its tensors; a late step must find it there."""
        for group in sgd.param_groups:
            group["fused"] = self.late or None  # whatever device a loaded state comes from
        for one in self.params:
            known = sgd.state[one].get("momentum_buffer") if one in sgd.state else None
            if known is not None:
                sgd.state[one]["momentum_buffer"] = torch.empty_like(one).copy_(known)
            elif self.late and self.plan.momentum:
                sgd.state[one]["momentum_buffer"] = torch.zeros_like(one)

    def at(self, progress: float, rows: int = 1) -> None:
        """Set the rates for this point of the run, 0 to 1, and how many rows this process has."""
        counts = torch.cat(everyone(torch.tensor([float(rows)])))
        self.share = rows / float(counts.mean())
        self.parts = min(self.plan.accumulate, int(counts.min()))
        self.checks = []
        if self.plan.on_nonfinite == "skip":
            self.blocked = torch.zeros_like(self.blocked)
        if self.optimizer is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * self.plan.pace(progress)

    def part(self, weight: float, *, first: bool, last: bool) -> None:
        """Turn to a part of the batch, that has ``weight`` of its rows; the last one moves."""
        self.weight, self.first, self.last, self.calls = weight, first, last, 0
        if first:
            self.seen: list[tuple[str, Tensor]] = []

    def __call__(self, evaluate: Evaluate, *modules: nn.Module) -> Objective:
        """Evaluate an objective and move ``modules`` (by default all groups) one step down it.

        Raises:
            NonFinite: If a term of the objective or a gradient is not finite.
            ValueError: If a batch in parts is descended more than once, or by a rule that climbs.
        """
        params = trainable(*modules) if modules else self.params
        rule, whole = self.method.rule, self.first and self.last
        self.calls += 1
        if not whole and (self.calls > 1 or isinstance(rule, Sharp)):
            how = "moves more than once a batch" if self.calls > 1 else "climbs before it descends"
            raise ValueError(
                f"{type(self.method).__name__} {how}, and gradients of "
                "parts add up for one move only: give --accumulate 1"
            )
        if self.first:
            self.optimizer.zero_grad(set_to_none=True)
            self.seen = []
        done = self._slope(evaluate, params, redraw=isinstance(rule, Sharp))
        if isinstance(rule, Sharp):
            with uncounted(self.method):
                self._sharpen(rule, done, evaluate, params)
        if self.last:
            self._move(params)
        return done

    @torch.enable_grad()
    def _slope(
        self, evaluate: Evaluate, params: Sequence[Tensor], *, redraw: bool = False, when: str = ""
    ) -> Objective:
        """Evaluate an objective and leave its gradient in the parameters."""
        with self._conditions(redraw=redraw):
            done = evaluate()
        self.seen += [(name + when, term.detach().sum()) for name, term in done.terms.items()]
        self.fabric.backward(done.total * (self.share * self.weight), inputs=params)
        return done

    @torch.no_grad()
    def _sharpen(
        self, rule: Sharp, done: Objective, evaluate: Evaluate, params: Sequence[Tensor]
    ) -> None:
        """Put in the place of the gradient that after the climb; the weights stay where they are.

        All processes climb alike, by the gradient of the whole batch. A scaler of float16 need not
        be asked: the climb does not depend on the gradient's scale.
        """
        with self._conditions(redraw=True):
            radius = rule.distance(done) * self.share
        self.seen.append(("radius", radius))
        gradients = gradients_of(params)
        mean_over_processes_([radius, *gradients])
        moved = [one for one in params if one.grad is not None]
        if moved:
            way = climb(moved, gradients, radius, adaptive=rule.adaptive)
            self.optimizer.zero_grad(set_to_none=True)
            with climbed(moved, way):
                self._slope(evaluate, params, when=" after the climb")

    @contextmanager
    def _conditions(self, *, redraw: bool) -> Iterator[None]:
        """Compute as the plan says; where asked, what is drawn will be drawn again afterwards."""
        alone = process()[1] == 1 or not self.plan.sync_batchnorm
        together = nullcontext() if alone else synchronized_batch_norm()
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        drawn = torch.random.fork_rng(devices=devices, enabled=redraw)
        explained = lone_values_explained(holdable=hasattr(self.method, "batchnorm"))
        with self.fabric.autocast(), together, drawn, explained:
            yield

    @torch.no_grad()
    def _move(self, params: Sequence[Tensor]) -> None:
        """Take the step that the gradients ask for, shortened, unless one is not finite."""
        gradients = gradients_of(params)
        values = torch.stack([value for _, value in self.seen])
        fault = (~values.isfinite().all()).float()
        mean_over_processes_([fault, *gradients])
        shortens = self.plan.clip is not None or bool(self.trusts)
        if self.scales and shortens and not bool(fault):
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else values[:0]
        moved = [one for one in params if one.grad is not None]
        names = tuple(name for name, _ in self.seen)
        known = (moved, norms) if not self.scales else ([], norms[:0])
        check = Check(names, values, fault, *known)
        if self.late:
            self.blocked = torch.maximum(self.blocked, check.broken)
            self.optimizer.optimizer.found_inf = self.blocked
            self.checks.append(check)
        else:
            check.refuse(self.method)
        if shortens and moved:
            self._shorten_(moved, gradients, norms)
        self.optimizer.step()

    def _shorten_(self, params: Sequence[Tensor], gradients: list[Tensor], norms: Tensor) -> None:
        """Bound the gradient as a whole, then each tensor's that is trusted so far only."""
        factors = torch.ones_like(norms)
        if self.plan.clip is not None:
            factors *= (self.plan.clip / (norms.norm() + 1e-6)).clamp_max(1.0)
        if self.trusts:
            key = tuple(map(id, params))
            if key not in self.bounds:  # made once: each making would wait for a GPU
                self.bounds[key] = self._bounds(params, norms)
            factors *= to_share(params, norms * factors, *self.bounds[key])
        torch._foreach_mul_(gradients, list(factors.unbind()))

    def _bounds(self, params: Sequence[Tensor], norms: Tensor) -> tuple[Tensor, Tensor]:
        shares = [self.trusts.get(one, math.inf) for one in params]
        least = [SMALLEST * one.numel() ** 0.5 for one in params]
        told = (torch.tensor(one, dtype=torch.float64).to(norms) for one in (shares, least))
        return next(told), next(told)

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
            self._ready(self.optimizer.optimizer)
            if state["scaler"]:
                self.fabric.strategy.precision.load_state_dict(state["scaler"])


def trainable(*modules: nn.Module) -> list[Tensor]:
    """List the parameters of ``modules`` that want gradients."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]
