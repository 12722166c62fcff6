"""How things move: the one owner of optimisers, learning rates and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.batchnorm.synchronized import synchronized_batch_norm
from adaptune.engine.method import Method
from adaptune.engine.nonfinite import StepCheck, lone_values_explained
from adaptune.engine.optimizers import (
    Moved,
    keep_order,
    moved_parts,
    optimizer_of,
    sharded_moments,
    trainable,
)
from adaptune.engine.plan import Plan
from adaptune.engine.rules import (
    SMALLEST,
    PerTerm,
    Separate,
    Sharp,
    climb,
    climbed,
    flat_gradients,
    put_gradients_,
    shorten_to_share,
    uncounted,
)
from adaptune.runtime.devices import random_numbers_kept
from adaptune.runtime.processes import gather_each, gradients_of, mean_over_processes_
from adaptune.runtime.processes import rank_and_world as process
from adaptune.runtime.shards import is_shard, joined, norms_of
from adaptune.types import Objective

Evaluate = Callable[[], Objective]

WHOLE = {
    Sharp: "climbs before it descends",
    PerTerm: "merges the gradients of its terms",
    Separate: "counts its steps",
}
"""Rules that ask for the gradient of a whole batch, and why."""


class Descent:
    """Take steps down an objective. The only place that touches an optimiser.

    Whether something is not finite is read before the step on the CPU, where that is free. On a
    GPU a step that must not be taken is left out there, without asking: its ``checks`` are to be
    read later, and ``late`` says so. A scaler of float16 reads for itself. Several processes wait
    once a step anyway; those that train in shards, whose backward pass averages gradients, read.
    """

    def __init__(self, method: Method, plan: Plan, fabric: Fabric) -> None:
        self.method, self.plan, self.fabric = method, plan, fabric
        self.scales = bool(fabric.strategy.precision.state_dict())
        self.is_sharded = any(is_shard(one) for one in method.parameters())
        self.late = fabric.device.type == "cuda" and not (self.scales or self.is_sharded)
        self.share, self.parts = 1.0, 1
        groups = method.groups()
        parts = moved_parts(method, groups, plan)
        self.rates = [part.rate for part in parts]
        self.trusts = {
            parameter: group.trust / rate
            for group, rate in ((group, plan.rate(group)) for group in groups)
            if math.isfinite(group.trust) and rate > 0
            for parameter in trainable(group.module)
        }
        self.params = [parameter for part in parts for parameter in part.params]
        self.optimizer: Any = None
        if self.params:
            self.optimizer = fabric.setup_optimizers(self._optimizer(parts))
        self.bounds: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self.blocked = torch.zeros(1, device=fabric.device)
        self.checks: list[StepCheck] = []
        self.part(1.0, first=True, last=True)

    def _optimizer(self, parts: list[Moved]) -> Any:
        return optimizer_of(parts, self.plan, late=self.late, scales=self.scales)

    def at(self, progress: float, rows: int = 1, steps: int = 1) -> None:
        """Set the rates for this point of a run, 0 to 1, of so many steps.

        ``rows`` are those of the batch that this process has.
        """
        counts = torch.cat(gather_each(torch.tensor([float(rows)])))
        self.share = rows / float(counts.mean())
        self.parts = min(self.plan.accumulate, int(counts.min()))
        self.checks = []
        if self.plan.on_nonfinite == "skip":
            self.blocked = torch.zeros_like(self.blocked)
        if self.optimizer is not None:
            batch = int(counts.sum())
            share = self.plan.share(progress, batch=batch, images=float(batch * steps))
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * share

    def part(self, weight: float, *, first: bool, last: bool) -> None:
        """Turn to a part of the batch, that has ``weight`` of its rows; the last one moves."""
        self.weight, self.first, self.last, self.calls = weight, first, last, 0
        if first:
            self.seen: list[tuple[str, Tensor]] = []

    def __call__(self, evaluate: Evaluate, *modules: nn.Module) -> Objective:
        """Evaluate an objective and move ``modules`` (by default all groups) one step down it.

        Raises:
            NonFiniteError: If a term of the objective or a gradient is not finite.
            ValueError: If a batch in parts is descended more than once, or by a rule or a task that
                asks for all of it.
        """
        params = trainable(*modules) if modules else self.params
        rule, whole = self.method.rule, self.first and self.last
        self.calls += 1
        if not whole and self.method.task.joins:
            raise ValueError(
                f"{type(self.method.task).__name__.lower()} compares every row with all others of "
                "the batch, and parts of it would be compared among themselves: give --accumulate "
                "1, and a smaller --batch-size if memory is short"
            )
        if not whole and (self.calls > 1 or type(rule) in WHOLE):
            how = "moves more than once a batch" if self.calls > 1 else WHOLE[type(rule)]
            raise ValueError(
                f"{type(self.method).__name__} {how}, and gradients of "
                "parts add up for one move only: give --accumulate 1"
            )
        if self.first:
            self.optimizer.zero_grad(set_to_none=True)
            self.seen = []
        if isinstance(rule, PerTerm):
            done = self._merge(rule, evaluate, params)
        else:
            done = self._slope(evaluate, params, redraw=isinstance(rule, Sharp))
        if isinstance(rule, Sharp):
            with uncounted(self.method):
                self._sharpen(rule, done, evaluate, params)
                if rule.beside is not None:
                    more = self._slope(rule.beside, params)
                    done = replace(done, terms=done.terms | more.terms)
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
        inputs = None if self.is_sharded else params  # of these the graph knows joined copies
        self.fabric.backward(done.total * (self.share * self.weight), inputs=inputs)
        return done

    @torch.enable_grad()
    def _merge(self, rule: PerTerm, evaluate: Evaluate, params: Sequence[Tensor]) -> Objective:
        """Evaluate an objective once, and leave in the parameters what the rule makes of its terms.

        All processes merge the gradients of the whole batch, and so come to the same.
        """
        with self._conditions(redraw=False):
            done = evaluate()
        self.seen += [(name, term.detach().sum()) for name, term in done.terms.items()]
        own = {id(one) for one in trainable(rule.module)}
        inside = [one for one in params if id(one) in own]
        beyond = [one for one in params if id(one) not in own]
        found, reached = dict[str, Tensor](), set[int]()
        for name, term in done.terms.items():
            if inside and term.requires_grad:
                self.fabric.backward(term * self.share, inputs=inside, retain_graph=True)
            found[name] = flat_gradients(inside) if inside else term.new_zeros(0)
            reached |= {id(one) for one in inside if one.grad is not None}
            for one in inside:
                one.grad = None
        counted = [one for name, one in done.terms.items() if name not in rule.guides]
        if beyond:
            self.fabric.backward(torch.stack(counted).sum() * self.share, inputs=beyond)
        if inside:
            with torch.no_grad():
                mean_over_processes_(found.values())
                put_gradients_(inside, rule.merged(found))
            for one in inside:  # what no term reaches stays, as under any rule
                one.grad = one.grad if id(one) in reached else None
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
        drawn = random_numbers_kept(self.fabric.device, asked=redraw)
        explained = lone_values_explained(holdable=hasattr(self.method, "batchnorm"))
        with self.fabric.autocast(), together, drawn, explained:
            yield

    @torch.no_grad()
    def _move(self, params: Sequence[Tensor]) -> None:
        """Take the step that the gradients ask for, shortened, unless one is not finite."""
        gradients = gradients_of(params)
        values = torch.stack([value for _, value in self.seen])
        faults = (~values.isfinite()).float()
        mean_over_processes_([faults, *(one for one in gradients if not is_shard(one))])
        names = tuple(name for name, _ in self.seen)
        if isinstance(self.method.rule, Separate):
            values, faults = self.method.rule.leave_out_(names, values, faults)
        fault = faults.amax()
        shortens = self.plan.clip is not None or bool(self.trusts)
        if self.scales and shortens and not bool(fault):
            self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        norms = norms_of(gradients) if gradients else values[:0]
        moved = [one for one in params if one.grad is not None]
        known = (moved, norms) if not self.scales else ([], norms[:0])
        check = StepCheck(names, values, fault, *known)
        if self.late:
            self.blocked = torch.maximum(self.blocked, check.broken)
            self.optimizer.optimizer.found_inf = self.blocked.reshape(())
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
            factors *= shorten_to_share(params, norms * factors, *self.bounds[key])
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
        optimizer = self.optimizer.state_dict()
        if self.is_sharded:
            moments = {number: joined(one) for number, one in optimizer["state"].items()}
            optimizer = {**optimizer, "state": moments}
        return {"optimizer": optimizer, "scaler": scaler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        if self.optimizer is not None:
            optimizer = state["optimizer"]
            if self.is_sharded:
                own = sharded_moments(optimizer["state"], self.params)
                optimizer = {**optimizer, "state": own}
            self.optimizer.load_state_dict(optimizer)
            adamw = self.plan.optimizer == "adamw"
            keep_order(self.optimizer.optimizer, fused=not self.scales if adamw else self.late)
            if state["scaler"]:
                self.fabric.strategy.precision.load_state_dict(state["scaler"])
