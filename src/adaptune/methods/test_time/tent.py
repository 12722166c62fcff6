"""Entropy minimisation at test time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor

from adaptune.batchnorm.layers import (
    batchnorms,
    mixed_statistics,
    other_norms,
    train_batchnorm_only,
    train_norms_only,
)
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Group, Needs, Objective


class Tent(Method):
    """Make predictions certain by moving weights and biases of norms, one step a batch.

    Every batch norm normalises by the batch at hand, in training and when predicting; running
    statistics stay as they are, and all but weights and biases of batch norms is frozen. A batch
    is answered as the network was before its step. In a stream dropout is off; released code leaves
    it on. Of a network without batch norms, as one of texts, the layer norms are trained instead,
    as in SAR (Niu et al., 2023), without its filter. Source: Tent: Fully Test-Time Adaptation by
    Entropy Minimization (Wang et al., 2021).

    Args:
        lr: The rate of batch norms, by default the paper's for ImageNet in batches of 64, with
            momentum 0.9; on smaller images it takes Adam at 0.001, here ``--optimizer adamw``.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Annotated[float, Between(1e-5, 1e-1)] = 0.00025,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.lr = lr
        if any(True for _ in batchnorms(net)) or not other_norms(net):
            train_batchnorm_only(net)
        else:
            train_norms_only(net)

    def groups(self) -> list[Group]:
        """Train what is not frozen: norms."""
        return [Group(self.net, self.lr)]

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the batch's statistics."""
        with mixed_statistics(0.0):
            return self.net(x)  # type: ignore[no-any-return]

    def objective(self, batch: Batch) -> Objective:
        """Ask for certain predictions: the mean entropy, in nats."""
        logits = self(batch.unlabeled.x)
        # Not of softmax alone: the logarithm of a probability that underflows has no gradient.
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        return Objective({"entropy": entropy.mean()}, logits)
