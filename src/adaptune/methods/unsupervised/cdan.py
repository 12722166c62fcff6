"""Conditional adversarial domain adaptation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.adversary import (
    critic,
    domain_loss,
    multilinear,
    ramp,
    random_multilinear,
    reverse,
)
from adaptune.ops.information import entropy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate

MOST = 4096
"""Products of a feature and a class that a critic is shown one by one."""


class CDAN(Method):
    """Hide the domain from a critic that sees features together with what is predicted of them.

    As in `DANN`, but the critic is shown the products of every feature with every class's
    probability, so that it tells apart the domains of each class. Where these are more than 4096 it
    is shown ``random`` products of random sums of features and of probabilities, drawn once. With
    ``certain`` an image counts ``1 + exp(-H)`` times, H being the entropy of its prediction: that
    is CDAN+E. Source: Conditional Adversarial Domain Adaptation (Long et al., 2018).

    The reversed gradient reaches body and head through the features, the probabilities and the
    entropies, as the paper's game of two players has it; released code holds probabilities still in
    the products and divides by the sum of a domain's weights.

    In train mode what batch norms normalise by is said by ``passes``, as in `DANN`: ``joint``, what
    both domains of a batch have together; ``separate``, each domain's own batch, both of which
    running statistics follow in turn; ``apart``, the same with statistics of each domain's own, the
    target's in predictions. The paper does not say. Rate, passes and how fast new layers learn are
    those of `dann` here, the paper's new layers learn ten times as fast.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        weight: How much the reversed gradient counts.
        certain: Whether images of which the network is sure count more (CDAN+E).
        random: How many random products the critic sees where all would be too many.
        new: How many times as fast head and critic learn, that start at random.
        hidden: The units of each of the critic's two hidden layers.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    sums: Tensor
    mixes: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        weight: Annotated[float, Between(0.1, 10.0)] = 1.0,
        certain: bool = True,
        random: int = 1024,
        new: float = 1.0,
        hidden: int = 1024,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes, self.weight = lr, batchnorm, passes, weight
        self.certain, self.random, self.new, self.hidden = certain, random, new, hidden
        self.is_random = net.width * task.outputs > MOST
        drawn = random if self.is_random else 0
        self.register_buffer("sums", torch.randn(net.width, drawn))
        self.register_buffer("mixes", torch.randn(task.outputs, drawn))
        self.critic = critic(drawn or net.width * task.outputs, hidden)
        self.both = DomainPasses(net.body, passes)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train the body slowly, what starts at random fast."""
        fast = self.new * self.lr
        return [
            Group(self.net.body, self.lr),
            Group(self.net.head, fast),
            Group(self.critic, fast),
        ]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the source, and for classes that hide the domain."""
        ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        features, count = torch.cat([ours, theirs]), len(ours)
        logits = self.net.head(features)
        strength = self.weight * ramp(batch.progress)
        hidden, predicted = reverse(features, strength), reverse(logits, strength)
        if self.is_random:
            shown = random_multilinear(hidden, predicted.softmax(1), self.sums, self.mixes)
        else:
            shown = multilinear(hidden, predicted.softmax(1))
        said, weights = self.critic(shown)[:, 0], None
        if self.certain:
            counts = 1 + torch.exp(-entropy(predicted))
            weights = counts[:count], counts[count:]
        terms = {
            "task": self.task.loss(logits[:count], batch.labeled.y),
            "domain": domain_loss(said[:count], said[count:], weights=weights),
        }
        return Objective(terms, logits[:count], ours)
