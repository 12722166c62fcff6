"""The loops that every method runs through: fit and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from adaptune.descent import Descent, Plan
from adaptune.faults import NonFinite, first_nonfinite
from adaptune.method import Method
from adaptune.network import Network
from adaptune.ops.batchnorm import batchnorms
from adaptune.ops.processes import any_process, gathered, mean_over_processes_
from adaptune.ops.processes import place as process
from adaptune.ops.seeds import mixed
from adaptune.types import Batch, Domains, Labeled, Needs, Outputs, Split, Unlabeled

Rows = TypeVar("Rows", bound=Unlabeled)


@dataclass(frozen=True)
class Epoch:
    """What `fit` hands back: means of the terms, what `prepare` found, all that resuming needs.

    ``number`` 0 comes before the first step, with the notes; training epochs count from 1. One
    that is not ``whole`` was paused after ``step`` of its steps. ``skipped`` steps were not taken,
    because something was not finite. ``state`` is a tree of tensors, numbers and words.
    """

    number: int
    terms: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    skipped: int = 0
    whole: bool = True


def fit(
    method: Method,
    data: Domains,
    plan: Plan,
    *,
    fabric: Fabric | None = None,
    state: dict[str, Any] | None = None,
    pause: Callable[[], bool] = lambda: False,
) -> Iterator[Epoch]:
    """Train, handing control back before the first step and after every epoch.

    Every random number is decided by seed, epoch and step, so a run that goes on from a state is
    the run that never stopped.

    Args:
        method: What is trained; it stays where this puts it, on the fabric's device.
        data: Where batches come from.
        plan: How long, and how steps are taken.
        fabric: Device and precision; by default the CPU in float32.
        state: The ``state`` of an `Epoch` of the same method, data and plan, to go on from.
        pause: Asked after every step but an epoch's last; where it says yes, control is handed
            back with an epoch that is not whole.

    Raises:
        NonFinite: If a term of the objective or a gradient stops being finite, unless the plan
            skips such steps.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    place(method, fabric)
    data = Placed(data, method, fabric)
    done = Progress() if state is None else Progress(**state["progress"])
    if state is None or not _fits(method, state["method"]):
        torch.manual_seed(plan.seed)
        notes = method.prepare(data)
    if state is not None:
        method.load_state_dict(state["method"])
    descend = Descent(method, plan, fabric)
    if state is None:
        yield Epoch(0, notes=notes, state=_state(done, method, descend))
    else:
        descend.load_state_dict(state["descent"])
    if not descend.params:
        return
    for number in range(done.epoch, plan.epochs):
        method.train()
        for pausing in _steps(method, data, plan, descend, done):
            if pausing and any_process(pause()):
                average_statistics_(method)
                yield _epoch(done, _state(done, method, descend), whole=False)
        average_statistics_(method)
        mean_over_processes_(done.sums.values())
        ended = replace(done)
        done.begin(number + 1)
        yield _epoch(ended, _state(done, method, descend), whole=True)


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
    method: Method, data: Domains, plan: Plan, descend: Descent, done: Progress
) -> Iterator[bool]:
    """Take the steps of one epoch that are left; say after each whether others follow."""
    needs, number, rank = method.needs, done.epoch, process()[0]
    steps = data.steps(needs)
    if done.step == 0:
        torch.manual_seed(mixed(plan.seed, number))
        method.refresh(data)
        method.train()
    for batch in data.batches(needs, number, done.step):
        progress = (number + done.step / max(steps, 1)) / plan.epochs
        descend.at(progress, rows=len(batch.labeled) + len(batch.unlabeled))
        torch.manual_seed(mixed(plan.seed, number, done.step, rank))
        try:
            done.count(_step(method, replace(batch, progress=progress), plan, descend))
        except NonFinite as found:
            if plan.on_nonfinite == "stop":
                raise found.at(number + 1, done.step + 1) from None
            done.skipped += 1
        done.step += 1
        yield done.step < steps
    if not done.step:
        raise ValueError("the training set gave no batch: it is empty, or no file could be read")


def _step(method: Method, batch: Batch, plan: Plan, descend: Descent) -> dict[str, Tensor]:
    """Take one step; where something is not finite, leave the method as it was and say what."""
    skips = plan.on_nonfinite == "skip"
    before = [buffer.clone() for buffer in method.buffers()] if skips else []
    try:
        return method.step(batch, descend).terms
    except NonFinite as found:
        told = found.told(batch, first_nonfinite(method, batch))
        for buffer, was in zip(method.buffers() if skips else (), before, strict=True):
            buffer.copy_(was)
        raise told from None


def _epoch(done: Progress, state: dict[str, Any], *, whole: bool) -> Epoch:
    taken = max(done.step - done.skipped, 1)
    terms = {name: float(total) / taken for name, total in done.sums.items()}
    return Epoch(done.epoch + 1, terms, {}, state, done.step, done.skipped, whole)


def _state(done: Progress, method: Method, descend: Descent) -> dict[str, Any]:
    progress = {one.name: getattr(done, one.name) for one in fields(done)}
    progress["sums"] = dict(done.sums)
    return {"progress": progress, "method": method.state_dict(), "descent": descend.state_dict()}


@torch.no_grad()
def average_statistics_(method: nn.Module) -> None:
    """Give all processes the mean of their running statistics.

    Batch norms normalise by what each process sees; running statistics are linear in that, so
    their mean at any time is what they had been if every step had been averaged.
    """
    running = [b for _, norm in batchnorms(method) for b in (norm.running_mean, norm.running_var)]
    mean_over_processes_(b for b in running if b is not None)


def _fits(method: Method, state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state can be taken as the method stands, without looking at the data."""
    own = method.state_dict()
    return own.keys() == state.keys() and all(own[key].shape == state[key].shape for key in own)


@torch.no_grad()
def evaluate(
    model: Method | Network, batches: Iterable[Labeled], *, fabric: Fabric | None = None
) -> Outputs:
    """Run a method or a network over a set once, in eval mode: logits, labels, features.

    Rows come in the order of the data set; of several processes each reads its share and gets all.
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
    own = [torch.cat(part).cpu() for part in zip(*rows, strict=True)]
    none = torch.empty(0, dtype=torch.int64)
    logits, y, features, index = map(
        gathered, own or [torch.empty(0, 1), none, torch.empty(0, 1), none]
    )
    order = index.argsort(stable=True)
    return Outputs(logits[order], y[order], features[order], index[order])


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

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch from number ``start`` on, placed."""
        for batch in self.data.batches(needs, epoch, start):
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
