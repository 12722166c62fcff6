"""Fine-tuning that is pulled back to where it started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.networks.sides import sides
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Objective, Rate


class L2SP(Method):
    """Fine-tune from a random head, the body pulled back to its pretrained weights.

    To the loss come ``alpha / 2`` times the squared distance of the body's weights from those it
    started with, and ``beta / 2`` times the squared norm of the head's. The start is kept as one
    more copy of these weights. Batch norms are in train mode, as in fine-tuning. Source: Explicit
    Inductive Bias for Transfer Learning with Convolutional Networks (Li, Grandvalet and Davoine,
    2018).

    Which parameters count is that of the authors' code: the weights of convolutions and linear
    layers, and neither biases nor the weights of norms. Here these are all parameters called weight
    that have more than one axis, so the weights of attention count too. A decoder that begins at
    random counts as the head. The plan's own decay towards zero should stay 0.

    Args:
        lr: The rate of everything.
        alpha: How strongly the body is pulled to its start.
        beta: How strongly the head is pulled to zero.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"
    start: Tensor

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.03,
        alpha: Annotated[float, Between(1e-3, 1.0)] = 0.1,
        beta: float = 0.01,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is the weight of a penalty, from 0 up: got {value}")
        self.lr, self.alpha, self.beta, self.batchnorm = lr, alpha, beta, batchnorm
        flat = [weight.detach().flatten() for weight in penalised(sides(net)[0])]
        self.register_buffer("start", torch.cat(flat) if flat else torch.empty(0))

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, for weights near their start, and for a small head."""
        logits = self.net(batch.labeled.x)
        pretrained, new = sides(self.net)
        weights = list(penalised(pretrained))
        begun = torch.split(self.start, [weight.numel() for weight in weights])
        moved = (one - was.view_as(one) for one, was in zip(weights, begun, strict=True))
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "start": self.alpha / 2 * squared_norm(moved, self.start),
            "head": self.beta / 2 * squared_norm(penalised(new), self.start),
        }
        return Objective(terms, logits)


def penalised(module: nn.Module) -> Iterator[Tensor]:
    """Give the weights of convolutions, linear layers and attention, in order.

    >>> [tuple(one.shape) for one in penalised(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))]
    [(2, 3)]
    """
    for name, parameter in module.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            yield parameter


def squared_norm(tensors: Iterable[Tensor], like: Tensor) -> Tensor:
    """Give the sum of all squares, a scalar of the kind of ``like``; 0 of nothing.

    >>> squared_norm([torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])], torch.empty(0))
    tensor(9.)
    """
    return sum((one.square().sum() for one in tensors), start=like.new_zeros(()))
