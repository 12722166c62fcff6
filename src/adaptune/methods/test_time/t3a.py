"""Templates of classes adjusted at test time."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.information import entropy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class T3A(Method):
    """Compare features with a mean of the surest of each class so far; no weight changes.

    A class's supports begin as its column of the head's weights, of length 1. The features of each
    image, of length 1, join those of the class that the head gives it, and of each class the
    ``supports`` that the head is surest of stay, by entropy. An image is answered by its features
    times the mean of each class's supports, which it has joined; the head's bias does not count.
    Source: Test-Time Classifier Adjustment Module for Model-Agnostic Domain Generalization (Iwasawa
    and Matsuo, 2021).

    Batch norms keep to their running statistics; with ``alpha`` below 1, which is ours, they
    normalise by a mix with the batch's, as in alpha-bn. The paper chooses ``supports`` among 1, 5,
    20, 50, 100 and all by images of the source; how many there may be is bounded here, so memory
    does not grow. Released code brings the mean of a class to length 1.

    Args:
        supports: How many supports of a class stay.
        alpha: The share of running statistics by which batch norms normalise.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"
    rows: Tensor
    doubts: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        supports: int = 20,
        alpha: Annotated[float, Between(0.05, 1.0)] = 1.0,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        mixed_statistics(alpha)  # which refuses what is no share
        if supports < 1:
            raise ValueError(f"a class has at least one support: got {supports}")
        self.supports, self.alpha = supports, alpha
        weight = net.head.fold().weight.detach()
        self.register_buffer("rows", weight.new_zeros(len(weight), supports, net.width))
        self.register_buffer("doubts", weight.new_full((len(weight), supports), torch.inf))
        with torch.no_grad():
            self.rows[:, 0] = F.normalize(weight)
            self.doubts[:, 0] = entropy(net.head(weight))

    def groups(self) -> list[Group]:
        """Train nothing."""
        return []

    def features(self, x: Tensor) -> Tensor:
        """Give the features of images."""
        with mixed_statistics(self.alpha):
            return self.net.body(x)  # type: ignore[no-any-return]

    def read(self, features: Tensor) -> Tensor:
        """Read features (N, D) by the mean of each class's supports: logits (N, K)."""
        counts = self.doubts.isfinite().sum(1, keepdim=True)
        return features @ (self.rows.sum(1) / counts).T

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the supports that there are."""
        return self.read(self.features(x))

    def objective(self, batch: Batch) -> Objective:
        """Ask for nothing."""
        return Objective({}, self(batch.unlabeled.x))

    @torch.no_grad()
    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Let the images join the supports, then answer them."""
        del descend
        features = self.features(batch.unlabeled.x)
        self.join(features, self.net.head(features))
        return Objective({}, self.read(features))

    def join(self, features: Tensor, logits: Tensor) -> None:
        """Add features (N, D) to the supports of their classes, and keep the surest."""
        classes = torch.arange(len(self.rows), device=features.device)
        own = logits.argmax(1) == classes[:, None]
        theirs = torch.where(own, entropy(logits).to(self.doubts), torch.inf)
        doubts, kept = torch.cat([self.doubts, theirs], 1).topk(self.supports, 1, largest=False)
        every = F.normalize(features).to(self.rows)
        new = every[(kept - self.supports).clamp_min(0)]
        old = self.rows[classes[:, None], kept.clamp_max(self.supports - 1)]
        rows = torch.where((kept < self.supports)[..., None], old, new)
        self.rows.copy_(torch.where(doubts.isfinite()[..., None], rows, 0.0))
        self.doubts.copy_(doubts)
