"""Homeostatic adapters of two ranks at test time."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from adaptune.batchnorm.layers import mixed_statistics
from adaptune.engine.method import Descend, Method
from adaptune.networks.layers.two_ranks import add_two_ranks, pairs_of, scale_pairs
from adaptune.networks.network import Network
from adaptune.ops.views import random_view
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class ViDA(Method):
    """Learn from a teacher, in adapters of low and high rank whose shares its doubt decides.

    Beside each linear layer and convolution of the body lies a pair of adapters, which at first
    change nothing (`TwoRanks`). The uncertainty u of a batch is a tenth of the variance of
    the teacher's outputs over ``views`` changed copies of each image (`random_view`), averaged;
    from ``threshold`` on the high rank counts 1 + u and the low rank 1 - u, below it the other way
    round, in the network and in its teacher. The network goes down the mean of both cross-entropies
    between the two, then the teacher keeps ``decay`` of itself. The teacher answers, as it was
    before. A network that is saved is plain: adapters fold into weights. Source: ViDA: Homeostatic
    Visual Domain Adapter for Continual Test Time Adaptation (Liu et al., 2024).

    Batch norms of both normalise by the batch at hand, and running statistics stay; the paper's
    networks have none. Uncertainty, the mean of cross-entropies, that all other weights learn too,
    and rates are the released code's for CIFAR-10, as descent has them; there the scale of the high
    rank never changes, by a slip, and weights are put back at random (`cotta` does that). It adapts
    linear layers of attention; convolutions, ranks no larger than a layer's, and that no scale
    falls below 0 are ours.

    Args:
        lr: The rate of adapters.
        body_lr: The rate of all other weights; 0 leaves them as they are.
        low: The low rank.
        high: The high rank.
        threshold: The uncertainty from which on the high rank counts more.
        views: Over how many changed copies the variance is taken.
        decay: How much of its other weights the teacher keeps in a step.
        adapter_decay: How much of its adapters it keeps.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True, pixels=True)
    setting: ClassVar[str] = "test-time"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-5, 1e-1)] = 0.001,
        body_lr: Annotated[float, Between(1e-5, 1e-1)] = 0.01,
        low: int = 1,
        high: int = 128,
        threshold: Annotated[float, Between(0.01, 2.0)] = 0.2,
        views: int = 10,
        decay: Annotated[float, Between(0.9, 0.9999)] = 0.999,
        adapter_decay: Annotated[float, Between(0.8, 0.9999)] = 0.999,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if min(low, high) < 1 or views < 2 or not 0 <= min(decay, adapter_decay) <= 1:
            raise ValueError(
                "ranks are from 1 up, views from 2, decays shares: got "
                f"{low}, {high}, {views}, {decay} and {adapter_decay}"
            )
        self.lr, self.body_lr, self.low, self.high = lr, body_lr, low, high
        self.threshold, self.views = threshold, views
        self.decay, self.adapter_decay = decay, adapter_decay
        add_two_ranks(net.body, low=low, high=high)
        net.requires_grad_(True)
        self.teacher = deepcopy(net).requires_grad_(False)

    def groups(self) -> list[Group]:
        """Train adapters at one rate, and all else at another."""
        pairs, rest = parted(self.net)
        return [Group(pairs, self.lr), Group(rest, self.body_lr)]

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the teacher, as it is, by the batch's statistics."""
        with mixed_statistics(0.0):
            return self.teacher(x)  # type: ignore[no-any-return]

    def objective(self, batch: Batch) -> Objective:
        """Ask network and teacher to say the same."""
        with torch.no_grad():
            answer = self(batch.unlabeled.x)
        with mixed_statistics(0.0):
            own = self.net(batch.unlabeled.x).log_softmax(1)
        theirs = answer.log_softmax(1)
        both = (theirs.exp() * own + own.exp() * theirs).sum(1) / 2
        return Objective({"consistency": -both.mean()}, answer)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Say how much each rank counts, descend, and let the teacher follow."""
        self.balance(batch.unlabeled.x)
        done = super().step(batch, descend)
        self.follow()
        return done

    @torch.no_grad()
    def balance(self, x: Tensor) -> None:
        """Give both ranks their scales by the teacher's uncertainty of images."""
        said = torch.stack([self(random_view(x)) for _ in range(self.views)])
        uncertainty = said.var(0).mean() / 10
        more, less = 1 + uncertainty, (1 - uncertainty).clamp_min(0)
        unsure = uncertainty >= self.threshold
        for net in (self.net, self.teacher):
            low, high = torch.where(unsure, less, more), torch.where(unsure, more, less)
            scale_pairs(net, low, high)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher's weights to the network's."""
        decays = (self.adapter_decay, self.decay)
        for means, own, decay in zip(parted(self.teacher), parted(self.net), decays, strict=True):
            torch._foreach_lerp_(list(means), list(own), 1 - decay)


def parted(net: nn.Module) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Give the parameters of adapters, and all others.

    >>> [len(one) for one in parted(nn.Linear(2, 2))]
    [0, 2]
    """
    pairs = [one for pair in pairs_of(net) for one in pair.adapters()]
    known = {id(one) for one in pairs}
    rest = [one for one in net.parameters() if id(one) not in known]
    return nn.ParameterList(pairs), nn.ParameterList(rest)
