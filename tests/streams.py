"""Streams of the toy: batches of rows, and a target that a network finds hard."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from toy import CLASSES, images, tinted

from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Unlabeled

TASK = Classification(len(CLASSES))


def rows_of(x: torch.Tensor, size: int) -> list[Unlabeled]:
    """Cut rows into batches in their order."""
    parts = torch.arange(len(x)).split(size)
    return [Unlabeled(x[part], torch.zeros_like(part), part) for part in parts]


def batch_of(x: torch.Tensor) -> Batch:
    """Give all rows as one batch, beside no labelled ones."""
    (rows,) = rows_of(x, len(x))
    none = rows.index[:0]
    return Batch(Labeled(x[:0], none, none, y=none), rows)


def noisy(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give tinted, noisy images, of which batch norms that adapt see more."""
    x, y = images(count, seed=31).tensors
    random = torch.Generator().manual_seed(1)
    return tinted(x, 1.0) + 3 * torch.randn(x.shape, generator=random), y


def answers(method: Method, batches: Sequence[Unlabeled], plan: Plan | None = None) -> torch.Tensor:
    """Give the logits of a whole stream."""
    return torch.cat([one.logits for one in stream(method, batches, plan or Plan())])


def accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    """Score logits, in percent."""
    return 100 * float((logits.argmax(1) == y).double().mean())


def gain(method: Method, net: Network, *, size: int = 24) -> float:
    """Say how much more often a method is right on the noisy stream than a network that stays."""
    x, y = noisy(240)
    with torch.no_grad():
        alone = accuracy(deepcopy(net).eval()(x), y)
    return accuracy(answers(method, rows_of(x, size)), y) - alone
