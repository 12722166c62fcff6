"""Adaptive batch normalisation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.layers import need_batchnorm
from adaptune.batchnorm.renewal import renew_statistics
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.tasks.task import Task
from adaptune.types import Batch, Domains, Group, Needs, Objective


class AdaBN(Method):
    """Take batch norms' statistics anew from the target's images; nothing else moves.

    Before the first step every batch norm gets the mean and variance of all unlabelled images,
    pooled exactly, and keeps them; weights and biases stay, so the function changes, which is the
    difference from DAFT's conversion. It takes one pass, in which a batch is normalised by its own
    statistics on its way from layer to layer. Source: Revisiting Batch Normalization For Practical
    Domain Adaptation (Li, Wang, Shi, Liu and Hou, 2016).

    Args:
        exact: Take a pass for each layer, behind layers that are done: what all images at once
            would give, however small the batches.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"

    def __init__(self, net: Network, task: Task, *, exact: bool = False) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.exact = exact
        need_batchnorm(net.body)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Measure the target."""

        def opened() -> Iterable[Tensor]:
            return (rows.x for rows in data.unlabeled())

        return {"statistics": renew_statistics(self.net.body, opened, exact=self.exact).to_dict()}

    def groups(self) -> list[Group]:
        """Train nothing."""
        return []

    def objective(self, batch: Batch) -> Objective:
        """Ask for nothing."""
        return Objective({}, self.net(batch.unlabeled.x))

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Answer."""
        del descend
        with torch.no_grad():
            return self.objective(batch)
