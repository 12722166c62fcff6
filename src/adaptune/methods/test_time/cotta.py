"""Continual test-time adaptation by a teacher that follows."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.views import random_view
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class CoTTA(Method):
    """Learn from a teacher that follows slowly, and put single weights back at random.

    The teacher, an average of the network, answers. Where the network that the stream began with is
    less than ``sure`` of a batch on average, the answer is the mean of the teacher's predictions of
    ``views`` changed copies of each image (`random_view`). The network goes down the cross-entropy
    to it; then the teacher keeps ``decay`` of itself, and each weight becomes, with probability
    ``restore``, what it was in the beginning. Source: Continual Test-Time Domain Adaptation (Wang
    et al., 2022).

    All weights move. Batch norms of all three networks normalise by the batch at hand, and running
    statistics stay. Probabilities are averaged, as in the paper; released code averages logits. How
    sure, how often put back and how fast are the paper's for images of CIFAR-10 (the rate that of
    ImageNet's, by descent); for ImageNet it is 0.1 and 0.001.

    Args:
        lr: The rate of the network.
        decay: How much of itself the teacher keeps in a step.
        restore: How probably a weight is put back in a step.
        sure: The mean confidence from which on no views are taken.
        views: Of how many changed copies predictions are averaged.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True, pixels=True)
    setting: ClassVar[str] = "test-time"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 1e-1)] = 0.01,
        decay: Annotated[float, Between(0.9, 0.9999)] = 0.999,
        restore: Annotated[float, Between(1e-4, 0.1)] = 0.01,
        sure: Annotated[float, Between(0.1, 1.0)] = 0.92,
        views: int = 32,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if not 0 <= decay < 1 or not 0 <= restore <= 1 or views < 1:
            raise ValueError(
                "decay is a share below 1, restore a probability and views a number above 0: got "
                f"{decay}, {restore} and {views}"
            )
        self.lr, self.decay, self.restore, self.sure, self.views = lr, decay, restore, sure, views
        net.requires_grad_(True)
        self.teacher, self.beginning = (deepcopy(net).requires_grad_(False) for _ in range(2))

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the teacher, as it is, by the batch's statistics."""
        with mixed_statistics(0.0):
            return self.teacher(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Give the teacher's log-probabilities (N, K), of views where the beginning is unsure."""
        with mixed_statistics(0.0):
            confidence = self.beginning(x).softmax(1).amax(1).mean()
        if confidence >= self.sure:
            sure: Tensor = self(x).log_softmax(1)
            return sure
        logs = torch.stack([self(random_view(x)).log_softmax(1) for _ in range(self.views)])
        return logs.logsumexp(0).log_softmax(1)

    def objective(self, batch: Batch) -> Objective:
        """Ask for what the teacher answers."""
        answer = self.answer(batch.unlabeled.x)
        with mixed_statistics(0.0):
            said = self.net(batch.unlabeled.x).log_softmax(1)
        return Objective({"consistency": -(answer.exp() * said).sum(1).mean()}, answer)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, let the teacher follow, and put some weights back."""
        done = super().step(batch, descend)
        self.follow()
        return done

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher's weights to the network's, then put some of these back."""
        nets = (self.teacher, self.net, self.beginning)
        for mean, own, was in zip(*(one.parameters() for one in nets), strict=True):
            mean.lerp_(own, 1 - self.decay)
            own.copy_(torch.where(torch.rand_like(own) < self.restore, was, own))
