"""Sharpness-aware minimisation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

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

    With ``part="head"`` the body stays as it is, in eval mode, and the head goes on from where it
    stands. That and then all is the linear probing and fine-tuning of a source network by a few
    images of the target of Few-shot Fine-tuning is All You Need for Source-free Domain Adaptation
    (Lee et al., 2023), whose released code takes Adam at 1e-4 for the head and 1e-5 for all.

    Args:
        lr: The rate of what is trained.
        rho: How far to climb.
        adaptive: Measure the climb of each weight by its size (ASAM, Kwon et al., 2021), where
            ``rho`` is larger, such as 0.5.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        part: What is trained: all, or the head alone.
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
        part: Literal["all", "head"] = "all",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm if part == "all" else "eval")
        if not 0 <= rho < float("inf"):
            raise ValueError(f"rho is how far to climb, a number from 0 up: got {rho}")
        self.lr, self.rho, self.adaptive, self.batchnorm = lr, rho, adaptive, batchnorm
        self.part, self.rule = part, Sharp(rho, adaptive)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; a body that is not trained stays in eval mode."""
        super().train(mode)
        if self.part == "head":
            self.net.body.eval()
        return self

    def groups(self) -> list[Group]:
        """Train everything, or the head, at one rate."""
        return [Group(self.net if self.part == "all" else self.net.head, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
