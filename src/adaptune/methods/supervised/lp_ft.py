"""Linear probing, then fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from adaptune.engine.method import Method
from adaptune.methods.supervised.lp import probe_head
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective


class LinearProbeFineTune(Method):
    """Start from the best linear probe, then train the whole network at one low rate.

    The probe's head pulls the features less than a random one. Batch norms stay in eval mode
    unless ``batchnorm`` says otherwise. Source: Kumar et al., 2022, with the probe of Ha, Jeong and
    Lee, 2024.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        cs: How many values of C the probe tries.
    """

    setting: ClassVar[str] = "supervised"
    can_shard: ClassVar[bool] = True
    task: Labelling
    net: Network[Readout]

    def __init__(
        self,
        net: Network[Readout],
        task: Labelling,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.003,
        batchnorm: BatchNormPolicy = "eval",
        cs: int = 50,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.cs = lr, batchnorm, cs

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Find the head; in the same pass convert batch norms if the policy says so."""
        return probe_head(self.net, self.task, data, cs=self.cs, batchnorm=self.batchnorm)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
