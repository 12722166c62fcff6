"""Contrast with negatives mixed of both sides."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.joint import Joint
from adaptune.networks.joint_parts import cool
from adaptune.networks.network import Network
from adaptune.ops.mixing import geodesic
from adaptune.runtime.processes import gather_each, join
from adaptune.tasks.matching import Matching, losses_at, own_places, same_rows
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Objective, Rate


class M2Mix(Method):
    """Tell pairs apart from hard negatives too, which lie between the two sides of other pairs.

    Beside the loss of `clip`, every row and every partner is asked for its own among negatives
    that are points on the great circle between another row's embedding and its partner's. Where
    both sides lie apart on the sphere, these fill what is between, and are harder than a partner
    alone. How far along is drawn for each batch from Beta(``beta``, ``beta``). The second loss, the
    sum of both ways, counts ``weight`` times. Batch norms do what ``batchnorm`` says; mixing is of
    embeddings. Source: Geodesic Multi-Modal Mixup for Robust Fine-Tuning (Oh et al., 2023).

    Its variants that mix rows of one side are left out. Ours: the scale of cosines is learnt, and
    at most 100, where the released code keeps it at 100; what is equal to a row's partner is none
    of its negatives. The code trains in eval mode.

    Args:
        lr: The rate of everything.
        weight: How much mixed negatives count; 0 leaves them out.
        beta: Both parameters of the Beta distribution that the share of a row is drawn from.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    setting: ClassVar[str] = "supervised"
    net: Network[Joint]
    task: Matching

    def __init__(
        self,
        net: Network[Joint],
        task: Matching,
        *,
        lr: Rate = 0.03,
        weight: Annotated[float, Between(0.001, 1.0)] = 0.01,
        beta: float = 1.0,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0 <= weight < float("inf") or not 0 < beta < float("inf"):
            raise ValueError(f"weight is from 0 up, beta above 0: got {weight} and {beta}")
        self.lr, self.weight, self.beta, self.batchnorm = lr, weight, beta, batchnorm

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything once, and keep the scale within its bound."""
        said = super().step(batch, descend)
        cool(self.net.head)
        return said

    def objective(self, batch: Batch) -> Objective:
        """Ask for each row's partner, among other partners and among mixtures."""
        rows, head = batch.labeled, self.net.head
        own, partners = head.embed(self.net.body(rows.x)), self.task.embedded(rows.y)
        output = head.warmth * own
        terms = {"task": self.task.contrast(output, partners, rows.y).mean()}
        if self.weight:
            share = gather_each(torch.distributions.Beta(self.beta, self.beta).sample())[0]
            left = same_rows(join(rows.y))
            mixed = mixed_losses(own, partners, share, head.warmth, left)
            terms["mixed"] = self.weight * mixed.mean()
        return Objective(terms, output)


def mixed_losses(
    own: Tensor, partners: Tensor, share: Tensor, warmth: Tensor, left: Tensor | None = None
) -> Tensor:
    """Give the sum of both ways' losses of rows (N, E) with their partners among mixtures, (N,).

    Both are of length 1. A mixture of another pair is ``share`` of its row; cosines are times
    ``warmth``, and ``left`` (M, M) says which are no negatives.

    >>> one, other = torch.eye(2), torch.eye(2).flip(0)
    >>> mixed_losses(one, other, torch.tensor(0.0), torch.tensor(1.0)).round(decimals=4)
    tensor([2.0064, 2.0064])
    """
    mixed, at = geodesic(join(own), join(partners), share), own_places(own)
    losses = []
    for side in (own, partners):
        alike = side.to(mixed) @ mixed.T
        alike = alike.scatter(1, at.unsqueeze(1), (own * partners).sum(1, keepdim=True).to(alike))
        losses.append(losses_at(warmth * alike, at, left))
    return losses[0] + losses[1]
