"""Fine-tuning."""

from __future__ import annotations

from typing import ClassVar

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Group, Objective, Rate


class FineTune(Method):
    """Train the whole network at one rate, from a random head.

    The baseline that distorts features most: batch norms are in train mode, so they normalise by
    the new domain from the first step. Source: the baseline of Kumar et al., 2022.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"
    can_shard: ClassVar[bool] = True

    def __init__(
        self, net: Network, task: Task, *, lr: Rate = 0.03, batchnorm: BatchNormPolicy = "train"
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm = lr, batchnorm

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
