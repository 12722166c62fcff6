"""A set run through a method or a network once: scores, a sample of outputs, mistakes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
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
from adaptune.types import Labeled, Outputs


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
    counted, sample = task.tally(), Sample()
    net = model.net if isinstance(model, Method) else model
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
def run_through(
    model: Method | Network,
    batches: Iterable[Labeled],
    *tallies: Tally,
    fabric: Fabric | None = None,
) -> None:
    """Show tallies what a method or a network gives for every batch, then merge them.

    Features are what the body gives during the prediction, so they cost nothing more. The model
    goes back to the mode it was in.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    to_device(model, fabric)
    layout, mode = layout_of(model), model.training
    net = model.net if isinstance(model, Method) else model
    caught: list[Tensor] = []
    hook = net.body.register_forward_hook(lambda *call: caught.append(call[2]))
    model.eval()
    try:
        for batch in batches:
            moved = rows_to_device(batch, fabric, layout)
            caught.clear()
            with fabric.autocast(), in_python(), keep_freed_memory():
                logits = model(moved.x)
            outputs = Outputs(logits.float(), moved.y, caught[-1].float(), batch.index)
            for tally in tallies:
                tally.add(outputs)
    finally:
        hook.remove()
        model.train(mode)
    for tally in tallies:
        tally.merge()


class _Answered:
    """A tally that is shown the network's answers: with a column for unknown, if it has one."""

    def __init__(self, net: Network, tally: Tally) -> None:
        self.net, self.tally = net, tally

    def add(self, outputs: Outputs) -> None:
        self.tally.add(replace(outputs, logits=self.net.with_unknown(outputs.logits)))

    def merge(self) -> None:
        self.tally.merge()
