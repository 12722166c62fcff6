"""Instance-batch normalisation."""

from __future__ import annotations

from typing import Any, ClassVar

from adaptune.engine.method import Method
from adaptune.networks.layers.instance_batchnorm import InstanceBatchNorm
from adaptune.networks.network import Network
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Objective, Rate


class IBN(Method):
    """Let half the channels of early layers forget how an image looks, then fine-tune.

    Of the first batch norm of every residual block in the first ``stages`` stages half the channels
    become an instance norm, which takes away contrast and colour of every image by itself (IBN-a);
    weights and biases are taken over. Blocks and stages are found by structure (`first_norms`). The
    other half stays batch norm and does as ``batchnorm`` says. Labelled domains, one or several,
    are learnt from as one. Source: Two at Once (Pan, Luo, Shi and Tang, 2018).

    The paper splits the norms of three of four stages and trains from scratch on ImageNet. Here
    the network is pretrained with batch norm and did not learn to do without what instance norm
    takes away, so ``stages`` is smaller by default. IBN-b, whose norms stand behind residual sums
    and would be new to a pretrained network, is left out.

    Args:
        lr: The rate of everything.
        stages: How many stages, from the first, have norms that are split.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "generalisation"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.03,
        stages: int = 1,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        net.operate("ibn", stages=stages)
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.stages, self.batchnorm = lr, stages, batchnorm

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; say which norms were split."""
        report = super().prepare(data)
        layers = self.net.body.named_modules()
        split = [name for name, layer in layers if isinstance(layer, InstanceBatchNorm)]
        return {"split": split, **report}

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)
