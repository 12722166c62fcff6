"""Passes before the first step that leave no trace: which layout is faster, what compiles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import truediv

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.batches import DataOnDevice, batch_to_device, cut_batch, layout_of, to_device
from adaptune.engine.method import Method
from adaptune.engine.nonfinite import lone_values_explained
from adaptune.engine.optimizers import trainable
from adaptune.engine.plan import Plan
from adaptune.engine.rules import PerTerm
from adaptune.runtime.devices import random_numbers_kept, wait_for
from adaptune.runtime.processes import any_process, broadcast_from_first
from adaptune.runtime.processes import rank_and_world as process
from adaptune.types import Batch, Layout

ROWS = 16
"""Rows of a pass on the CPU, where so few tell as much as a whole batch."""

BRIEF = 0.01
"""Seconds under which a pass tells nothing of layouts."""

CLEARLY = 1.2
"""How many times as long channels last must take for torch's own layout to be chosen."""

ROUNDS = 3
"""Rounds that must all say so, lest a busy moment decides."""

PARTS = (
    "batch norms see one part of a batch at a time, and their running statistics move with each "
    "part: accumulation is like a whole batch only where they are held (--batchnorm eval)"
)
"""What people should know who accumulate gradients."""


def warm_up(method: Method, data: DataOnDevice, plan: Plan, fabric: Fabric) -> list[str]:
    """Choose the layout where none is given, compile if the plan says so; say what was done.

    The choice stands in the network's ``layout``. Where nothing is trained, nothing is done.
    """
    if not trained_parameters(method):
        return []
    said = [PARTS] if plan.accumulate > 1 and _normalises_by_batch(method) else []
    if plan.epochs < method.rounds:
        said.append(
            f"{type(method).__name__} was given {method.rounds} rounds, one an epoch, and there "
            f"are {plan.epochs} epochs, so it does less than it was asked for: give --epochs "
            f"{method.rounds}, or --rounds {plan.epochs}"
        )
    tries = method.net.layout == "auto" and layout_of(method) is torch.channels_last
    for batch in islice(data.batches(method.needs, 0), int(tries or plan.compile)):
        if tries:
            ratio = choose_layout(method, batch, fabric)
            said += _compared(method, ratio)
        if plan.compile:
            first = cut_batch(batch_to_device(batch, method, fabric), plan.accumulate)[0]
            said.append(compile_body(method, first, fabric, plan))
    return said


def choose_layout(method: Method, batch: Batch, fabric: Fabric) -> float:
    """Time a pass in channels last and one in torch's own layout, and keep to the faster.

    Channels last stays unless it is clearly slower, so that noise does not decide; all processes
    take the choice of the first. Gives how many times as long channels last took, 0 where passes
    are too brief to compare.
    """
    ratio, rows = 0.0, max(len(batch.labeled), len(batch.unlabeled))
    few = cut_batch(batch, max(1, rows // ROWS) if fabric.device.type == "cpu" else 1)[0]
    with leaving_no_trace(method, fabric):
        for _ in range(ROUNDS):
            last = _seconds(method, few, fabric, "channels_last")
            if any_process(last < BRIEF):
                break
            ratio = broadcast_from_first(
                partial(truediv, last, _seconds(method, few, fabric, "contiguous"))
            )
            if ratio <= CLEARLY:
                break
    method.net.layout = "contiguous" if ratio > CLEARLY else "channels_last"
    to_device(method, fabric)
    return ratio


def _compared(method: Method, ratio: float) -> list[str]:
    """Say what the trial found, if it found anything."""
    chosen = method.net.layout.replace("_", " ")
    told = f"images lie {chosen}: in a trial, channels last took {ratio:.2f} of contiguous's time"
    return [told] if ratio else []


def _normalises_by_batch(method: Method) -> bool:
    return method.net.batchnorm != "eval" and any(True for _ in batchnorms(method.net.body))


def compile_body(method: Method, batch: Batch, fabric: Fabric, plan: Plan) -> str:
    """Compile the body in place, by one pass; where that fails leave it, and say why."""
    body = method.net.body
    if process()[1] > 1 and plan.sync_batchnorm and any(batchnorms(body)):
        return "not compiled: batch norms that see all processes cannot be; --sync-batchnorm false"
    rule = method.rule
    if isinstance(rule, PerTerm):
        return "not compiled: gradients of single terms pass a network again, which it then cannot"
    began = time.perf_counter()
    body.compile()
    try:
        with leaving_no_trace(method, fabric):
            one_pass(method, batch, fabric)
    except Exception as error:  # a compiler may fail in any way, and training goes on without it
        uncompile(method)
        why = str(error).strip().split("\n")[0]
        return f"not compiled: {why} (torch.compile needs a C++ compiler such as g++)"
    return f"compiled in {time.perf_counter() - began:.0f} s"


def uncompile(method: Method) -> None:
    """Let the body run as written again."""
    method.net.body._compiled_call_impl = None


@contextmanager
def leaving_no_trace(method: Method, fabric: Fabric) -> Iterator[None]:
    """Train for a while, then put back what that changes: buffers, modes and random numbers."""
    modes = [(module, module.training) for module in method.modules()]
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
    with random_numbers_kept(fabric.device):
        method.train()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for name, buffer in method.named_buffers():
                    buffer.copy_(buffers[name])


def trained_parameters(method: Method) -> list[Tensor]:
    """List the parameters that training moves."""
    return trainable(*(group.module for group in method.groups()))


def one_pass(method: Method, batch: Batch, fabric: Fabric) -> None:
    """Take the network forward and backward, as a step does; no gradient is kept."""
    sides = [side.x for side in (batch.labeled, batch.unlabeled) if len(side)]
    explained = lone_values_explained(holdable=hasattr(method, "batchnorm"))
    with torch.enable_grad(), fabric.autocast(), explained:
        total = torch.stack([method.net(x).float().square().mean() for x in sides]).sum()
    torch.autograd.grad(total, trained_parameters(method), allow_unused=True)
    wait_for(fabric.device)


def _seconds(method: Method, batch: Batch, fabric: Fabric, layout: Layout) -> float:
    """Time the second of two passes in a layout."""
    method.net.layout = layout
    to_device(method, fabric)
    batch = batch_to_device(batch, method, fabric)
    one_pass(method, batch, fabric)
    began = time.perf_counter()
    one_pass(method, batch, fabric)
    return time.perf_counter() - began
