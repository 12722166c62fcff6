"""The loops that every method runs through: fit and evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.descent import Descent, Plan
from adaptune.method import Method
from adaptune.network import Network
from adaptune.types import Batch, Domains, Labeled, Needs, Outputs, Split, Unlabeled

Rows = TypeVar("Rows", bound=Unlabeled)


@dataclass(frozen=True)
class Epoch:
    """What `fit` hands back: means of the terms, what `prepare` found, all that resuming needs.

    ``number`` 0 comes before the first step, with the notes; training epochs count from 1.
    """

    number: int
    terms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def fit(
    method: Method,
    data: Domains,
    plan: Plan,
    *,
    fabric: Fabric | None = None,
    state: dict[str, Any] | None = None,
) -> Iterator[Epoch]:
    """Train, handing control back before the first step and after every epoch.

    Args:
        method: What is trained; it stays where this puts it, on the fabric's device.
        data: Where batches come from.
        plan: How long, and how steps are taken.
        fabric: Device and precision; by default the CPU in float32.
        state: The ``state`` of an `Epoch` of the same method, data and plan, to go on from.

    Raises:
        FloatingPointError: If a term of the objective stops being finite.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    place(method, fabric)
    data = Placed(data, method, fabric)
    torch.manual_seed(plan.seed)
    notes = method.prepare(data)
    descend = Descent(method, plan, fabric)
    done = 0
    if state is not None:
        method.load_state_dict(state["method"])
        descend.load_state_dict(state["descent"])
        done = state["epoch"]
    yield Epoch(done, notes=notes, state=_state(done, method, descend))
    if not descend.params:
        return
    for number in range(done, plan.epochs):
        torch.manual_seed(_mixed(plan.seed, number))
        method.refresh(data)
        method.train()
        terms = _epoch(method, data, plan, descend, number)
        yield Epoch(number + 1, terms, state=_state(number + 1, method, descend))


def _epoch(
    method: Method, data: Domains, plan: Plan, descend: Descent, number: int
) -> dict[str, float]:
    """Take the steps of one epoch; give the mean of each term over them."""
    steps = data.steps(method.needs)
    sums: dict[str, Tensor] = {}
    taken = 0
    for batch in data.batches(method.needs, number):
        progress = (number + taken / max(steps, 1)) / plan.epochs
        descend.at(progress)
        objective = method.step(replace(batch, progress=progress), descend)
        for name, term in objective.terms.items():
            sums[name] = sums.get(name, 0.0) + term.detach()
        taken += 1
    terms = {name: float(total) / taken for name, total in sums.items()}
    for name, value in terms.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise FloatingPointError(
                f"the term {name!r} is {value} in epoch {number + 1}: the rate may be too high "
                "(try a third of it), or an input holds values that are not finite"
            )
    if not taken:
        raise ValueError("the training set gave no batch: it is empty, or no file could be read")
    return terms


def _state(epoch: int, method: Method, descend: Descent) -> dict[str, Any]:
    return {"epoch": epoch, "method": method.state_dict(), "descent": descend.state_dict()}


def _mixed(seed: int, epoch: int) -> int:
    """Make one seed of two numbers, so that neighbours share nothing."""
    return (seed * 1_000_003 + epoch + 1) % 2**63


@torch.no_grad()
def evaluate(
    model: Method | Network, batches: Iterable[Labeled], *, fabric: Fabric | None = None
) -> Outputs:
    """Run a method or a network over a set once, in eval mode: logits, labels, features.

    Features are what the body gives during the prediction, so they cost nothing more. The model
    goes back to the mode it was in.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    place(model, fabric)
    layout, mode = layout_of(model), model.training
    net = model.net if isinstance(model, Method) else model
    caught: list[Tensor] = []
    hook = net.body.register_forward_hook(lambda *call: caught.append(call[2]))
    rows: list[tuple[Tensor, ...]] = []
    model.eval()
    try:
        for batch in batches:
            batch = placed(batch, fabric, layout)
            caught.clear()
            with fabric.autocast():
                logits = model(batch.x)
            rows.append((logits.float(), batch.y, caught[-1].float(), batch.index))
    finally:
        hook.remove()
        model.train(mode)
    if not rows:
        none = torch.empty(0, dtype=torch.int64)
        return Outputs(torch.empty(0, 1), none, torch.empty(0, 1), none)
    logits, y, features, index = (torch.cat(part).cpu() for part in zip(*rows, strict=True))
    return Outputs(logits, y, features, index)


def layout_of(module: nn.Module) -> torch.memory_format:
    """Choose channels last where the network convolves images, which is faster there.

    >>> layout_of(nn.Conv2d(1, 1, 1)), layout_of(nn.Linear(1, 1))
    (torch.channels_last, torch.contiguous_format)
    """
    convolves = any(isinstance(part, nn.Conv2d) for part in module.modules())
    return torch.channels_last if convolves else torch.contiguous_format


def place(model: nn.Module, fabric: Fabric) -> None:
    """Move a model to the fabric's device, in the layout that suits it."""
    model.to(device=fabric.device)
    if layout_of(model) is torch.channels_last:
        model.to(memory_format=torch.channels_last)


def placed(rows: Rows, fabric: Fabric, layout: torch.memory_format) -> Rows:
    """Move rows to the fabric's device; images take ``layout``."""

    def move(x: Tensor) -> Tensor:
        x = x.to(fabric.device, non_blocking=True)
        return x.contiguous(memory_format=layout) if x.dim() == 4 else x

    moved = {name: getattr(rows, name) for name in ("domain", "index", "y") if hasattr(rows, name)}
    moved = {name: value.to(fabric.device, non_blocking=True) for name, value in moved.items()}
    return replace(rows, x=move(rows.x), views=tuple(map(move, rows.views)), **moved)


class Placed:
    """Data as seen from the device: every batch is moved there on its way."""

    def __init__(self, data: Domains, method: Method, fabric: Fabric) -> None:
        self.data, self.fabric, self.layout = data, fabric, layout_of(method)

    def batches(self, needs: Needs, epoch: int) -> Iterator[Batch]:
        """Give the batches of an epoch, placed."""
        for batch in self.data.batches(needs, epoch):
            yield replace(
                batch,
                labeled=placed(batch.labeled, self.fabric, self.layout),
                unlabeled=placed(batch.unlabeled, self.fabric, self.layout),
            )

    def scan(self, split: Split) -> Iterator[Labeled]:
        """Give the rows of a split, placed."""
        for rows in self.data.scan(split):
            yield placed(rows, self.fabric, self.layout)

    def steps(self, needs: Needs) -> int:
        """Count the batches of an epoch."""
        return self.data.steps(needs)
