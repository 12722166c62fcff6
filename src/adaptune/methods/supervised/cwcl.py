"""Contrast in which pairs count by how alike they are on a side that is kept."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.joint import Joint
from adaptune.networks.joint_parts import cool, groups_of, lock, placed, sides
from adaptune.networks.network import Network
from adaptune.ops.contrast import weighted_contrast
from adaptune.runtime.processes import gather, join
from adaptune.tasks.matching import Matching, losses_at, own_places, same_rows
from adaptune.types import Batch, BatchNormPolicy, Group, Objective, Rate


class CWCL(Method):
    """Train one side towards one that is kept, where each row is asked for all that are like it.

    The body or the tower is ``locked``. A row i of that side is asked for every partner j of the
    batch, by ``w_ij = (1 + cos(u_i, u_j)) / 2`` of the locked features u, over their sum; a row of
    the other side for its own partner alone. The loss is half the sum of both. So rows that are
    alike on the locked side are not pushed apart. Batch norms of a locked body stay in eval mode,
    whatever ``batchnorm`` says; otherwise they do what it says. Source: CWCL: Cross-Modal Transfer
    with Continuously Weighted Contrastive Loss (Srinivasa et al., 2023).

    Ours: the sum is halved, so that rates are those of `clip`; maps into the space learn on both
    sides, and weights are of features below them; of a partner that stands at several rows the
    other side's rows are no negatives of each other.

    Args:
        lr: The body's rate.
        texts: How many times as fast the tower learns, which reads texts.
        new: How many times as fast the maps into the space learn, and the scale.
        locked: What stays as it is, and says what is alike: body or tower.
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
        texts: float = 1.0,
        new: float = 1.0,
        locked: Literal["body", "tower"] = "body",
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm="eval" if locked == "body" else batchnorm)
        self.lr, self.texts, self.new = lr, texts, new
        self.locked, self.batchnorm = locked, batchnorm
        lock(net, locked, "cwcl")

    def train(self, mode: bool = True) -> Self:
        """Switch modes; what is locked stays in eval mode."""
        super().train(mode)
        sides(self.net)[self.locked].eval()
        return self

    def groups(self) -> list[Group]:
        """Train the side that is not locked, and the maps, at their rates."""
        how = {"texts": self.texts, "new": self.new}
        return groups_of(self.net, self.lr, **how, locked=self.locked)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything once, and keep the scale within its bound."""
        said = super().step(batch, descend)
        cool(self.net.head)
        return said

    def objective(self, batch: Batch) -> Objective:
        """Ask the locked side's rows for all that are like them, the other's for their own."""
        rows, head = batch.labeled, self.net.head
        features, told = self.net.body(rows.x), sides(self.net)["tower"](rows.y)
        output, partners = head(features), placed(head, told)
        weights = likeness(features if self.locked == "body" else told)
        there, back = output @ join(partners).T, partners @ join(output).T
        ours, theirs = (there, back) if self.locked == "body" else (back, there)
        plain = losses_at(theirs, own_places(rows.x), same_rows(join(rows.y)))
        loss = (weighted_contrast(ours, weights) + plain).mean() / 2
        return Objective({"task": loss}, output)


@torch.no_grad()
def likeness(features: Tensor) -> Tensor:
    """Give how alike rows (N, D) are to all M rows of all processes, from 0 to 1: (N, M).

    >>> likeness(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    unit = F.normalize(features, dim=1)
    return (1 + unit @ gather(unit).T) / 2
