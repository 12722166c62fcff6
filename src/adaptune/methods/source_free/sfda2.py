"""Source-free adaptation as data augmentation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.banks import attraction, collect, crowding, neighbours, scatter_rows, update_rows_
from adaptune.ops.covariances import ClassMoments, augmented_loss, class_moments, merge, separation
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective


class SFDA2(Method):
    """Pull neighbours together as if they were augmentations, and augment features class by class.

    The network was trained on the source. Predictions are drawn to those of images nearby in a
    bank, and apart from the rest of the batch, which counts less and less. A loss under
    augmentation along the running covariance of each guessed class is added, whose strength grows
    over the run, and what keeps the covariances of alike classes apart. In train mode batch norms
    follow the target's batches. Source: SF(DA)^2 (Hwang et al., 2024).

    The pull is minus the dot product of predictions, which is what the released code's divergence
    descends. The paper's network has a bottleneck of 256 features; covariances take classes x
    width^2 numbers, so wide features cost memory.

    Args:
        lr: The head's rate.
        body: How many times as fast as the head the body learns.
        batchnorm: What batch norms do: train or eval.
        neighbours: How many images nearby pull a prediction.
        decay: How fast the push from the rest of the batch fades: (1 + 10 t/T)^-``decay``.
        implicit: The weight of the loss under augmentation.
        strength: How strong augmentation is in the end.
        disentangle: The weight of what keeps covariances apart.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"
    task: Classification
    features: Tensor
    scores: Tensor
    count: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        body: float = 0.1,
        batchnorm: Literal["train", "eval"] = "train",
        neighbours: int = 5,
        decay: float = 5.0,
        implicit: float = 1e-4,
        strength: float = 5.0,
        disentangle: float = 10.0,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.body, self.batchnorm, self.neighbours = lr, body, batchnorm, neighbours
        self.decay, self.implicit, self.strength = decay, implicit, strength
        self.disentangle = disentangle
        net.head = net.head.fold()
        classes, width = task.classes, net.width
        self.register_buffer("count", torch.zeros(classes))
        self.register_buffer("mean", torch.zeros(classes, width))
        self.register_buffer("covariance", torch.zeros(classes, width, width))

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Fill the banks of features and predictions."""
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        self.register_buffer("features", scatter_rows(seen.index, F.normalize(seen.features)))
        self.register_buffer("scores", scatter_rows(seen.index, seen.logits.softmax(1)))
        return {}

    def groups(self) -> list[Group]:
        """Train the head, and the body slowly."""
        return [Group(self.net.body, self.body * self.lr), Group(self.net.head, self.lr)]

    def moments(self, features: Tensor, logits: Tensor) -> ClassMoments:
        """Give the running moments with this batch's; gradients flow to the batch alone."""
        rows = features.to(self.mean.dtype)
        fresh = class_moments(rows, logits.argmax(1), self.task.classes)
        return merge(ClassMoments(self.count, self.mean, self.covariance), fresh)

    def objective(self, batch: Batch) -> Objective:
        """Ask for neighbours that agree, others that differ, and robust, separate features."""
        index, features = batch.unlabeled.index, self.net.body(batch.unlabeled.x)
        logits, weight = self.net.head(features), self.net.head.weight
        chances = logits.softmax(1)
        covariance = self.moments(join(features), gather(logits)).covariance
        near = self.scores[neighbours(features, self.features, index, self.neighbours)]
        strength = self.strength * batch.progress
        augmented = augmented_loss(logits, logits.argmax(1), weight, covariance, strength)
        terms = {
            "attract": -attraction(chances, near),
            "disperse": (1 + 10 * batch.progress) ** -self.decay * crowding(join(chances)),
            "augment": self.implicit * augmented.mean(),
            "disentangle": -self.disentangle * separation(covariance, self.scores),
        }
        return Objective(terms, logits, features)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, then write what was seen into the banks and the moments."""
        done, index = super().step(batch, descend), batch.unlabeled.index
        assert done.features is not None
        features, logits = done.features.detach(), done.logits.detach()
        update_rows_(self.features, index, F.normalize(features))
        update_rows_(self.scores, index, logits.softmax(1))
        moments = self.moments(gather(features), gather(logits))
        for name in ("count", "mean", "covariance"):
            getattr(self, name).copy_(getattr(moments, name))
        return done
