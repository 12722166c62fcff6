"""Domain-adversarial training."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.adversary import critic, domain_loss, ramp, reverse
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Needs, Objective, Rate


class DANN(Method):
    """Learn features from which a critic cannot tell the source from the target.

    The critic learns to tell the domains of features apart; its gradient reaches the body reversed,
    times ``weight`` and a factor that rises from 0 to 1 over the run, so that the body learns to
    confuse it. Source and target go through the body in one pass: in train mode batch norms
    normalise both by what the two have together, which is also what their running statistics
    follow and what predictions on either domain use. Source: Domain-Adversarial Training of Neural
    Networks (Ganin et al., 2016).

    The paper's factor for new layers is 10, above a bottleneck; right on a network's features it
    made heads diverge.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        weight: How much the reversed gradient counts.
        new: How many times as fast head and critic learn, that start at random.
        hidden: The units of each of the critic's two hidden layers.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        weight: Annotated[float, Between(0.1, 10.0)] = 1.0,
        new: float = 1.0,
        hidden: int = 1024,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm = lr, batchnorm
        self.weight, self.new, self.hidden = weight, new, hidden
        self.critic = critic(net.width, hidden)

    def groups(self) -> list[Group]:
        """Train the body slowly, what starts at random fast."""
        fast = self.new * self.lr
        return [
            Group(self.net.body, self.lr),
            Group(self.net.head, fast),
            Group(self.critic, fast),
        ]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the source, and for features that hide the domain."""
        count = len(batch.labeled)
        features = self.net.body(torch.cat([batch.labeled.x, batch.unlabeled.x]))
        logits = self.net.head(features[:count])
        said = self.critic(reverse(features, self.weight * ramp(batch.progress)))
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "domain": domain_loss(said[:count], said[count:]),
        }
        return Objective(terms, logits, features)
