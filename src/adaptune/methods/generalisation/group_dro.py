"""Group distributionally robust optimisation."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.class_features import class_sums
from adaptune.runtime.processes import gather, join
from adaptune.tasks.task import Task
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Needs, Objective, Rate


class GroupDRO(Method):
    """Learn most from the domain that loses most, so that the worst one becomes better.

    Every domain has a share, at first all the same. Each step multiplies it by ``exp(eta * loss)``,
    loss being the mean over its images in the batch, lets shares add up to 1 again, and goes down
    the domains' losses weighed by them; so domains that stay worse count more and more. Source:
    Distributionally Robust Neural Networks for Group Shifts (Sagawa et al., 2020).

    The paper's groups are classes with an attribute; here they are the labelled domains, as others
    take them for generalisation. A domain without an image in a batch keeps its share, which is
    ours: by the released code it would lose what the others gain. Of several processes it is the
    batch of all. The paper stresses that a network which fits every image needs strong decay or few
    epochs; its adjustment by the sizes of groups is left out.

    All domains of a batch pass through batch norm together, in train mode by the batch's
    statistics, which running ones follow, unweighted.

    Args:
        lr: The rate of everything.
        eta: How fast shares move.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"
    shares: Tensor

    def __init__(
        self,
        net: Network,
        task: Task,
        *,
        lr: Rate = 0.03,
        eta: Annotated[float, Between(1e-3, 1.0)] = 0.01,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta is how fast shares move, a number from 0 up: got {eta}")
        self.lr, self.eta, self.batchnorm = lr, eta, batchnorm
        self.register_buffer("shares", torch.full((task.domains,), 1 / task.domains))

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend by the shares that this batch's losses lead to, and keep them."""
        done = descend(partial(self.objective, batch))
        with torch.no_grad():
            self.shares.copy_(self.moved(*self.losses(batch, done.logits)))
        return done

    def losses(self, batch: Batch, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean loss of each domain, over all processes, and its rows, both (S,)."""
        losses = join(self.task.losses(logits, batch.labeled.y)).unsqueeze(1)
        total, count = class_sums(losses, gather(batch.labeled.domain), self.task.domains)
        return total[:, 0] / count.clamp_min(1), count

    def moved(self, losses: Tensor, count: Tensor) -> Tensor:
        """Give the shares after a step of such losses (S,), of so many rows each."""
        there, own = count > 0, self.shares
        raised = (own.log() + self.eta * losses.detach()).masked_fill(~there, -torch.inf)
        return torch.where(there, own[there].sum() * raised.softmax(0), own)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, of each domain by its share."""
        logits = self.net(batch.labeled.x)
        losses, count = self.losses(batch, logits)
        return Objective({"task": (self.moved(losses, count) * losses).sum()}, logits)
