"""Mixup."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.mixing import mixup, partners
from adaptune.runtime.processes import gather
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Needs, Objective, Rate


class Mixup(Method):
    """Learn from images that are mixtures of two, and from the labels of both in proportion.

    Every image of a batch is mixed with another one by a share from Beta(``alpha``, ``alpha``), and
    loses that share of its label's loss and the rest of the other's. Source: mixup: Beyond
    Empirical Risk Minimization (Zhang et al., 2018).

    The other is any image of the batch, also of another labelled domain, so with several it is what
    others call mixup across domains, without making pairs differ in domain. Released code draws one
    share a batch; here each image has its own, of which the larger part is its own image's:
    pairs are as likely as in the paper, and every image is the larger part of one.

    In train mode batch norms see mixtures alone, and so do their running statistics: their means
    are those of plain images before the first layer that is not linear, their variances are
    smaller. Predictions are of plain images.

    Args:
        lr: The rate of everything.
        alpha: How even mixtures are: near 0 hardly mixed, at 1 any share alike.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(pixels=True)
    setting: ClassVar[str] = "supervised"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.03,
        alpha: Annotated[float, Between(0.1, 1.0)] = 0.2,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0.05 <= alpha < float("inf"):  # less is drawn wrongly in float32
            raise ValueError(f"alpha is a number from 0.05 up: got {alpha}")
        self.lr, self.alpha, self.batchnorm = lr, alpha, batchnorm

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask of mixtures for both labels, each by its share."""
        rows = batch.labeled
        share, partner = (one.to(rows.x.device) for one in partners(len(rows), alpha=self.alpha))
        logits = self.net(mixup(rows.x, gather(rows.x)[partner], share))
        own, other = (self.task.losses(logits, y) for y in (rows.y, gather(rows.y)[partner]))
        return Objective({"task": torch.lerp(other, own, share.to(own)).mean()}, logits)
