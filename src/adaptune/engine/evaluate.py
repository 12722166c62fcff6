"""A set run through a method or a network once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.engine.batches import (
    RowBuffer,
    layout_of,
    rows_to_device,
    to_device,
)
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.runtime.inputs import in_python
from adaptune.runtime.memory import keep_freed_memory
from adaptune.runtime.processes import gather
from adaptune.types import Labeled, Outputs


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
    to_device(model, fabric)
    layout, mode = layout_of(model), model.training
    net = model.net if isinstance(model, Method) else model
    caught: list[Tensor] = []
    hook = net.body.register_forward_hook(lambda *call: caught.append(call[2]))
    rows = RowBuffer()
    model.eval()
    try:
        for batch in batches:
            batch = rows_to_device(batch, fabric, layout)
            caught.clear()
            with fabric.autocast(), in_python(), keep_freed_memory():
                logits = model(batch.x)
            rows.add(logits.float(), batch.y, caught[-1].float(), batch.index)
    finally:
        hook.remove()
        model.train(mode)
    own = [part.cpu() for part in rows.all()]
    none = torch.empty(0, dtype=torch.int64)
    logits, y, features, index = map(
        gather, own or [torch.empty(0, 1), none, torch.empty(0, 1), none]
    )
    order = index.argsort(stable=True)
    return Outputs(logits[order], y[order], features[order], index[order])
