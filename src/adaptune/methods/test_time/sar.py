"""Sharpness-aware and reliable entropy minimisation at test time."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics, train_norms_only
from adaptune.engine.method import Descend, Method
from adaptune.engine.optimizers import trainable
from adaptune.engine.rules import Sharp
from adaptune.networks.network import Network
from adaptune.ops.information import entropy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class SAR(Method):
    """Make reliable predictions certain where the entropy is flat, and begin anew on a collapse.

    The mean entropy of images whose entropy is below ``reliable`` of ln K goes down, by the
    gradient after a climb of length ``radius``. A running average of these entropies after the
    climb that falls below ``collapse`` of ln K says that answers have collapsed: the weights become
    those that the stream began with, and the average begins anew. Source: Towards Stable Test-Time
    Adaptation in Dynamic Wild World (Niu et al., 2023).

    Weights and biases of batch norms, group norms and layer norms move, but for the last fifth of
    these layers, and nothing else; the paper leaves out the last stage of a ResNet and a quarter of
    a transformer's blocks. Batch norms normalise by the batch at hand, and running statistics stay;
    group and layer norms do not mix images, which the paper recommends. It resets at an entropy of
    0.2 of 1000 classes, told here as a share of ln K. Where no image counts, momentum moves alone;
    momentum outlives a reset. Released code also leaves out images that a climb makes unreliable.

    Args:
        lr: The rate of norms, by default the paper's for batch norms.
        radius: The length of the climb.
        reliable: The largest entropy that counts, as a share of ln K.
        collapse: The average entropy below which it begins anew, as a share of ln K; 0 never does.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"
    start: Tensor
    average: Tensor
    resets: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-5, 1e-1)] = 0.00025,
        radius: Annotated[float, Between(0.005, 0.5)] = 0.05,
        reliable: Annotated[float, Between(0.1, 1.0)] = 0.4,
        collapse: float = 0.03,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.radius, self.reliable, self.collapse = lr, radius, reliable, collapse
        self.rule = Sharp(radius)
        train_norms_only(net, without=TOP)
        start = torch.cat([one.detach().flatten() for one in trainable(net)])
        self.register_buffer("start", start.clone())
        self.register_buffer("average", start.new_full((), torch.nan))
        self.register_buffer("resets", torch.zeros((), dtype=torch.int64))

    def groups(self) -> list[Group]:
        """Train what is not frozen: norms."""
        return [Group(self.net, self.lr)]

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the batch's statistics."""
        with mixed_statistics(0.0):
            return self.net(x)  # type: ignore[no-any-return]

    def objective(self, batch: Batch) -> Objective:
        """Ask for certain predictions of images that are reliable."""
        return self._asked(batch, [])

    def _asked(self, batch: Batch, seen: list[Tensor]) -> Objective:
        """Ask it of the images that were reliable the first time; note each time's entropy."""
        logits = self(batch.unlabeled.x)
        doubts = entropy(logits)
        if not seen:
            seen.append(doubts.detach() < self.reliable * math.log(logits.shape[1]))
        mean = (doubts * seen[0]).sum() / seen[0].sum().clamp_min(1)
        seen.append(mean.detach())
        return Objective({"entropy": mean}, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend; then begin anew if answers have collapsed."""
        seen: list[Tensor] = []
        done = descend(lambda: self._asked(batch, seen))
        sure, *_, after = seen
        if sure.any():
            last = after.to(self.average)
            begun = ~self.average.isnan()
            self.average.copy_(torch.where(begun, self.average.lerp(last, 0.1), last))
        if self.average < self.collapse * math.log(done.logits.shape[1]):
            self.begin_anew()
        return done

    @torch.no_grad()
    def begin_anew(self) -> None:
        """Give weights the values that they began with."""
        moved = list(trainable(self.net))
        starts = torch.split(self.start, [one.numel() for one in moved])
        for one, was in zip(moved, starts, strict=True):
            one.copy_(was.view_as(one))
        self.average.fill_(torch.nan)
        self.resets += 1


TOP = 0.2
"""The share of norms, last in the network, that stay as they are."""
