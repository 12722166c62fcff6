"""A set run through a method or a network once: scores, a sample of outputs, mistakes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.engine.batches import layout_of, rows_to_device, to_device
from adaptune.engine.method import Method
from adaptune.metrics.sample import Sample
from adaptune.metrics.tally import Mistake, Tally
from adaptune.networks.network import Network
from adaptune.results.score import Scores
from adaptune.runtime.inputs import in_python
from adaptune.runtime.memory import keep_freed_memory
from adaptune.tasks.task import Task
from adaptune.types import Labeled, Outputs, Unlabeled

OF_WINDOWS = 5
"""How many axes inputs (1, windows, C, H, W) have, of which one row is seen in several windows."""

WINDOWS = 4
"""Windows that are looked at together."""


@dataclass(frozen=True)
class Evaluation:
    """What a set came to: its scores, a fixed sample of its rows, the surest mistakes.

    ``sample`` holds outputs as the body and head give them, at most 2,000 rows in the order of the
    data set; a smaller set is there as a whole.
    """

    scores: Scores
    sample: Outputs
    mistakes: list[Mistake]


def evaluate(
    model: Method | Network,
    batches: Iterable[Labeled],
    task: Task,
    *,
    fabric: Fabric | None = None,
) -> Evaluation:
    """Score a method or a network on a set, in one pass in eval mode.

    What it would call unknown counts as that. Of several processes each reads its share and all
    get the same. Memory does not grow with the set, but for what the task's tally says it keeps.

    Raises:
        ValueError: If the set has no row, or the outputs are not those of the task.
    """
    net = model.net if isinstance(model, Method) else model
    counted, sample = task.reading(net).tally(), Sample()
    run_through(model, batches, _Answered(net, counted), sample, fabric=fabric)
    return Evaluation(counted.scores(), sample.outputs(), counted.mistakes())


def sample_outputs(
    model: Method | Network, batches: Iterable[Labeled], *, fabric: Fabric | None = None
) -> Outputs:
    """Give the outputs of a fixed sample of a set, as in an `Evaluation`, whatever its labels."""
    sample = Sample()
    run_through(model, batches, sample, fabric=fabric)
    return sample.outputs()


@torch.no_grad()
def logits_of(net: Network, rows: Unlabeled, fabric: Fabric) -> Tensor:
    """Give what a network says of rows, which it need not lie beside."""
    with fabric.autocast():
        logits: Tensor = net(rows_to_device(rows, fabric, layout_of(net)).x)
    return logits.float()


@torch.no_grad()
def embeddings_of(net: Network, rows: Unlabeled, fabric: Fabric, *, partners: bool) -> Tensor:
    """Give the embeddings of rows, of length 1: of what a network reads, or of ``partners``.

    Raises:
        ValueError: If the network has no space for both.
    """
    space, x = net.joint, rows_to_device(rows, fabric, layout_of(net)).x
    with fabric.autocast():
        found = net.partners(x) if partners else space.embed(net.body(x))
    return F.normalize(found.float(), dim=1)


@torch.no_grad()
def run_through(
    model: Method | Network,
    batches: Iterable[Labeled],
    *tallies: Tally,
    fabric: Fabric | None = None,
) -> None:
    """Show tallies what a method or a network gives for every batch, then merge them.

    Features are what the body gives during the prediction, so they cost nothing more. Of rows that
    are seen in windows, one at a time (1, W, C, H, W), outputs lie side by side on the last axis.
    The model goes back to the mode it was in.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    to_device(model, fabric)
    look, mode = _Look(model, fabric), model.training
    model.eval()
    try:
        for batch in batches:
            outputs = look(batch)
            for tally in tallies:
                tally.add(outputs)
            del outputs  # else they would lie beside what the next batch takes
    finally:
        look.hook.remove()
        model.train(mode)
    for tally in tallies:
        tally.merge()


class _Look:
    """Shows a model batches, and catches its features on the way."""

    def __init__(self, model: Method | Network, fabric: Fabric) -> None:
        self.model, self.fabric, self.layout = model, fabric, layout_of(model)
        self.caught: list[Tensor] = []
        net = model.net if isinstance(model, Method) else model
        self.hook = net.body.register_forward_hook(lambda *call: self.caught.append(call[2]))

    def __call__(self, batch: Labeled) -> Outputs:
        moved = rows_to_device(batch, self.fabric, self.layout)
        seen = self._windows if moved.x.dim() == OF_WINDOWS else self._once
        logits, features = seen(moved.x)
        return Outputs(logits, moved.y, features, batch.index)

    def _once(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with self.fabric.autocast(), in_python(), keep_freed_memory():
            logits = self.model(x)
        features = self.caught.pop()
        self.caught.clear()
        return logits.float(), features.float()

    def _windows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give outputs of one row's windows side by side, (1, K, h, windows * w).

        Features are those of a window in the middle: of all they would fill the memory.
        """
        parts = torch.split(x.flatten(0, 1), WINDOWS)
        logits, kept = [], x
        for number, part in enumerate(parts):
            said, features = self._once(part.contiguous(memory_format=self.layout))
            logits += list(said)
            if number == len(parts) // 2:
                kept = features[:1].clone()
        return torch.cat(logits, -1)[None], kept


class _Answered:
    """A tally that is shown the network's answers: with a column for unknown, if it has one."""

    def __init__(self, net: Network, tally: Tally) -> None:
        self.net, self.tally = net, tally

    def add(self, outputs: Outputs) -> None:
        self.tally.add(replace(outputs, logits=self.net.with_unknown(outputs.logits)))

    def merge(self) -> None:
        self.tally.merge()
