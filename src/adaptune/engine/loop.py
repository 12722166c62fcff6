"""The loops that every method runs through: fit and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.averaging import Averaging, averaging_of
from adaptune.engine.batches import DataOnDevice, cut_batch, to_device
from adaptune.engine.descent import Descent
from adaptune.engine.method import Method
from adaptune.engine.nonfinite import NonFiniteError, PendingChecks, first_nonfinite
from adaptune.engine.optimizers import refuse_plan
from adaptune.engine.plan import Plan
from adaptune.engine.sharding import Sharding, refuse_shards
from adaptune.engine.warmup import uncompile, warm_up
from adaptune.runtime.devices import set_seed
from adaptune.runtime.memory import keep_freed_memory
from adaptune.runtime.processes import any_process, mean_over_processes_
from adaptune.runtime.processes import rank_and_world as process
from adaptune.runtime.seeds import seed_for
from adaptune.types import Batch, Domains


@dataclass(frozen=True)
class Epoch:
    """What `fit` hands back: means of the terms, what `prepare` found, all that resuming needs.

    ``number`` 0 comes before the first step, with the notes; training epochs count from 1. One
    that is not ``whole`` was paused after ``step`` of its steps. ``skipped`` steps were not taken,
    because something was not finite. ``state`` is a tree of tensors, numbers and words; where
    weights are sharded it is whole on the first process alone, and emptied when the next epoch is
    asked for. ``said`` are sentences for people on how steps will be taken.
    """

    number: int
    terms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    skipped: int = 0
    whole: bool = True
    said: tuple[str, ...] = ()


def fit(
    method: Method,
    data: Domains,
    plan: Plan,
    *,
    fabric: Fabric | None = None,
    state: dict[str, Any] | None = None,
    pause: Callable[[], bool] = lambda: False,
    begin: Callable[[], None] = lambda: None,
) -> Iterator[Epoch]:
    """Train, handing control back before the first step and after every epoch.

    Every random number is decided by seed, epoch and step, so a run that goes on from a state is
    the run that never stopped. Where the plan averages weights, the network has those while an
    epoch that is whole is handed back, and in the end; see `Averaging`.

    Args:
        method: What is trained; it stays where this puts it, on the fabric's device.
        data: Where batches come from.
        plan: How long, and how steps are taken.
        fabric: Device and precision; by default the CPU in float32.
        state: The ``state`` of an `Epoch` of the same method, data and plan, to go on from.
        pause: Asked after every step but an epoch's last; where it says yes, control is handed
            back with an epoch that is not whole.
        begin: Called once everything is in place, before anything is handed back or trained.

    Raises:
        ValueError: If the state is that of another network or method, or the method's rates fit
            no such optimiser or decay.
        NonFiniteError: If a term of the objective or a gradient stops being finite, unless the plan
            skips such steps.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    refuse_plan(method, plan)
    refuse_shards(method, plan, fabric)
    kept = plan.layout == "auto" and state is not None
    method.net.layout = state.get("layout", "channels_last") if kept and state else plan.layout
    if plan.shard:
        method.net.layout = "contiguous"
    to_device(method, fabric)
    data = DataOnDevice(data, method, fabric)
    done = Progress() if state is None else Progress(**state["progress"])
    if state is None or not method.fits(state["method"]):
        set_seed(plan.seed, fabric.device)
        notes = method.prepare(data)
    if state is not None:
        method.take(state["method"])
    said = warm_up(method, data, plan, fabric)
    sharding = Sharding(method, fabric, asked=plan.shard)
    said += sharding.said
    descend = Descent(sharding.trained, plan, fabric)
    average = averaging_of(method, plan, state, sharding.trained)
    try:
        if state is not None:
            descend.load_state_dict(state["descent"])
        begin()
        if state is None:
            layout = {"layout": method.net.layout} if descend.params else {}
            begun = _state(done, method, descend, average)
            yield Epoch(0, notes=notes | layout, state=begun, said=tuple(said))
            sharding.release(begun)
        if descend.params:
            yield from _epochs(sharding, data, plan, descend, average, done, pause)
            average.hand_back(data)
    finally:
        uncompile(method)


def _epochs(
    sharding: Sharding,
    data: Domains,
    plan: Plan,
    descend: Descent,
    average: Averaging,
    done: Progress,
    pause: Callable[[], bool],
) -> Iterator[Epoch]:
    """Train through the epochs that are left, from the step that is next."""
    method, whole = sharding.trained, sharding.whole
    unread = PendingChecks(method)
    state: dict[str, Any] = {}
    for number in range(done.epoch, plan.epochs):
        average.take_back()
        sharding.release(state)
        method.train()
        with keep_freed_memory():
            for pausing in _steps(method, data, plan, descend, done, unread):
                average.step()
                if pausing and any_process(pause()):
                    _settle(unread, plan, done)
                    average_statistics_(method)
                    sharding.gather()
                    state = _state(done, whole, descend, average)
                    yield _epoch(done, state, whole=False)
                    sharding.release(state)
        _settle(unread, plan, done)
        average_statistics_(method)
        average.end(number + 1)
        mean_over_processes_(done.sums.values())
        ended = replace(done)
        done.begin(number + 1)
        sharding.gather()
        state = _state(done, whole, descend, average)
        average.hand_back(data)
        yield _epoch(ended, state, whole=True)


def _settle(unread: PendingChecks, plan: Plan, done: Progress, keep: int = 0) -> None:
    """Read what became of all steps but the newest ``keep``; count those that were left out."""
    for found in unread.read(keep):
        if plan.on_nonfinite == "stop":
            raise found
        done.skipped += 1


@dataclass
class Progress:
    """How far a run has come: steps taken in which epoch, and the sums of its terms over them."""

    epoch: int = 0
    step: int = 0
    skipped: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, epoch: int) -> None:
        """Turn to another epoch."""
        self.epoch, self.step, self.skipped, self.sums = epoch, 0, 0, {}

    def count(self, terms: Mapping[str, Tensor]) -> None:
        """Count a step that was taken."""
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(term)) + term.detach()


def _steps(
    method: Method,
    data: Domains,
    plan: Plan,
    descend: Descent,
    done: Progress,
    unread: PendingChecks,
) -> Iterator[bool]:
    """Take the steps of one epoch that are left; say after each whether others follow."""
    needs, number, rank = method.needs, done.epoch, process()[0]
    steps = data.steps(needs)
    if done.step == 0:
        set_seed(seed_for(plan.seed, number), descend.fabric.device)
        method.refresh(data)
        method.train()
    for batch in data.batches(needs, number, done.step):
        progress = (number + done.step / max(steps, 1)) / plan.epochs
        rows = len(batch.labeled) + len(batch.unlabeled)
        descend.at(progress, rows=rows, steps=steps * plan.epochs)
        set_seed(seed_for(plan.seed, number, done.step, rank), descend.fabric.device)
        try:
            done.count(_step(method, replace(batch, progress=progress), plan, descend))
        except NonFiniteError as found:
            if plan.on_nonfinite == "stop":
                raise found.at(number + 1, done.step + 1) from None
            done.skipped += 1
        done.step += 1
        if descend.late:
            unread.add(descend.checks, batch, number + 1, done.step)
            _settle(unread, plan, done, keep=1)
        yield done.step < steps
    if not done.step:
        raise ValueError("the training set gave no batch: it is empty, or no file could be read")


def _step(method: Method, batch: Batch, plan: Plan, descend: Descent) -> dict[str, Tensor]:
    """Take one step; where something is not finite, leave the method as it was and say what."""
    skips = plan.on_nonfinite == "skip"
    buffers = list(method.buffers()) if skips else []
    before = [buffer.clone() for buffer in buffers]
    try:
        terms = _in_parts(method, batch, descend)
    except NonFiniteError as found:
        told = found.told(batch, first_nonfinite(method, batch))
        for buffer, was in zip(buffers, before, strict=True):
            buffer.copy_(was)
        raise told from None
    if not descend.late:
        return terms
    blocked = descend.blocked[0] > 0
    for buffer, was in zip(buffers, before, strict=True):
        buffer.copy_(torch.where(blocked, was, buffer))
    return {name: term.masked_fill(blocked, 0.0) for name, term in terms.items()}


def _in_parts(method: Method, batch: Batch, descend: Descent) -> dict[str, Tensor]:
    """Go down what all parts of a batch ask for; give the means of the terms over its rows."""
    parts = cut_batch(batch, descend.parts)
    sums: dict[str, Tensor] = {}
    for at, part in enumerate(parts):
        rows, own = (len(one.labeled) + len(one.unlabeled) for one in (batch, part))
        descend.part(own / rows, first=at == 0, last=at == len(parts) - 1)
        for name, term in method.step(part, descend).terms.items():
            sums[name] = sums.get(name, 0) + term.detach() * (own / rows)
    return sums


def _epoch(done: Progress, state: dict[str, Any], *, whole: bool) -> Epoch:
    taken = max(done.step - done.skipped, 1)
    terms = {name: float(total) / taken for name, total in done.sums.items()}
    return Epoch(done.epoch + 1, terms, {}, state, done.step, done.skipped, whole)


def _state(done: Progress, method: Method, descend: Descent, average: Averaging) -> dict[str, Any]:
    progress = {one.name: getattr(done, one.name) for one in fields(done)}
    progress["sums"] = dict(done.sums)
    return {
        "progress": progress,
        "layout": method.net.layout,
        "method": method.state_dict(),
        "descent": descend.state_dict(),
        **({"average": average.state_dict()} if average.plan.averages else {}),
    }


@torch.no_grad()
def average_statistics_(method: nn.Module) -> None:
    """Give all processes the mean of their running statistics.

    Batch norms normalise by what each process sees; running statistics are linear in that, so
    their mean at any time is what they had been if every step had been averaged.
    """
    running = [b for _, norm in batchnorms(method) for b in (norm.running_mean, norm.running_var)]
    mean_over_processes_(b for b in running if b is not None)
