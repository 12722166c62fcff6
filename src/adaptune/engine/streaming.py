"""Test-time adaptation: batches without labels are answered as they come, and learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.engine.batches import layout_of, rows_to_device, to_device
from adaptune.engine.descent import Descent
from adaptune.engine.method import Method
from adaptune.engine.nonfinite import NonFiniteError, first_nonfinite
from adaptune.engine.plan import Plan
from adaptune.runtime.devices import set_seed
from adaptune.runtime.seeds import seed_for
from adaptune.types import Batch, Labeled, Unlabeled


@dataclass(frozen=True)
class Prediction:
    """What a method says of a batch: ``logits`` (N, K), ``index`` (N,) the rows of the stream."""

    logits: Tensor
    index: Tensor


def stream(
    method: Method,
    batches: Iterable[Unlabeled],
    plan: Plan,
    *,
    fabric: Fabric | None = None,
    episodic: bool = False,
) -> Iterator[Prediction]:
    """Answer batch after batch, each by the step that adapts to it.

    The method is in eval mode, so that answers are predictions: what is drawn at random in
    training is off, and how batch norms behave is the method's to say. A stream has no end, so the
    rates stay the full ones and the batch's ``progress`` stays 0. Batches are of any size; the
    next one is not asked for before this one is answered. It runs in one process.

    Args:
        method: What adapts; it stays where this puts it, and as adapted as it is in the end.
        batches: The rows, in the order in which they are answered.
        plan: How steps are taken; its epochs, schedule and parts of batches do not count here.
        fabric: Device and precision; by default the CPU in float32.
        episodic: Put the method back after each answer, so that each is as if it were the first.

    Raises:
        NonFiniteError: If a term of the objective or a gradient is not finite, unless the plan
            skips such steps; then the batch is answered without a step.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    method.net.layout = plan.layout
    to_device(method, fabric)
    plan = replace(plan, warmup=0.0, schedule="constant")
    descend = Descent(method, plan, fabric)
    begun, mode = Snapshot(method, descend) if episodic else None, method.training
    method.eval()
    try:
        for number, rows in enumerate(batches):
            set_seed(seed_for(plan.seed, 0 if episodic else number), fabric.device)
            batch = _batch(rows_to_device(rows, fabric, layout_of(method)))
            descend.at(batch.progress, rows=len(rows))
            try:
                logits = _answered(method, batch, descend)
            finally:
                if begun:
                    begun.put_back()
            yield Prediction(logits, rows.index)
    finally:
        method.train(mode)


def _batch(rows: Unlabeled) -> Batch:
    """Put rows beside no labelled ones."""
    none = rows.index[:0]
    return Batch(Labeled(rows.x[:0], rows.domain[:0], none, y=none), rows)


def _answered(method: Method, batch: Batch, descend: Descent) -> Tensor:
    """Take the step; where something is not finite, answer as if there had been none, or stop."""
    skips, fabric = descend.plan.on_nonfinite == "skip", descend.fabric
    buffers = {name: one.clone() for name, one in method.named_buffers() if skips}
    try:
        # What descends opens the precision's context itself, around all that it evaluates.
        with nullcontext() if descend.params else fabric.autocast():
            done = method.step(batch, descend)
        for check in descend.checks:
            check.refuse(method)
        return done.logits.detach()
    except NonFiniteError as found:
        if not skips:
            raise found.told(batch, first_nonfinite(method, batch)) from None
        _write(method, buffers)
        with torch.no_grad(), fabric.autocast():
            return method(batch.unlabeled.x)  # type: ignore[no-any-return]


class Snapshot:
    """A method and its optimiser as they were when this was made, to put them back any time."""

    def __init__(self, method: Method, descend: Descent) -> None:
        self.method, self.descend = method, descend
        self.tensors = {name: one.detach().clone() for name, one in _tensors(method)}
        self.state = deepcopy(descend.state_dict())

    def put_back(self) -> None:
        """Give every weight, buffer and moment of the optimiser the value it had."""
        _write(self.method, self.tensors)
        self.descend.load_state_dict(self.state)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


@torch.no_grad()
def _write(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of their names."""
    for name, tensor in _tensors(module):
        if name in values:
            tensor.copy_(values[name])
