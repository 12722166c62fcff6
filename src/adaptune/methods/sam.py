"""Sharpness-aware minimisation."""

from __future__ import annotations

from typing import Annotated, ClassVar

from adaptune.engine.method import Method
from adaptune.engine.rules import Sharp
from adaptune.networks.network import Network
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Objective, Rate


class SAM(Method):
    """Fine-tune by the gradient found where the loss is worst nearby, for flat minima.

    Every step climbs by ``rho`` along the gradient, takes the gradient there, goes back and moves
    by that one; it costs two steps of fine-tuning and a further copy of the weights. Batch norms
    are in train mode, as in fine-tuning; their running statistics follow the first of the two
    passes alone. Source: SAM (Foret et al., 2021).

    Args:
        lr: The rate of everything.
        rho: How far to climb.
        adaptive: Measure the climb of each weight by its size (ASAM, Kwon et al., 2021), where
            ``rho`` is larger, such as 0.5.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.03,
        rho: Annotated[float, Between(0.01, 0.5)] = 0.05,
        adaptive: bool = False,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0 <= rho < float("inf"):
            raise ValueError(f"rho is how far to climb, a number from 0 up: got {rho}")
        self.lr, self.rho, self.adaptive, self.batchnorm = lr, rho, adaptive, batchnorm
        self.rule = Sharp(rho, adaptive)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
