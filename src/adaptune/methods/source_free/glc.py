"""Global and local clustering."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.banks import Collected, collect, neighbours, scatter_rows, update_rows_
from adaptune.ops.clustering import centre_rows, cluster_count, one_vs_all
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective

SHARES = (0.25, 0.5, 1.0, 2.0, 3.0)
"""Clusters that are tried for the target, as multiples of the number of classes."""


class GLC(Method):
    """Cluster the target one class against all others, so that images of no known class stand out.

    The network was trained on the source; only its body moves. Before every epoch each image is
    labelled with the class whose cluster beats those of all other images, or else with none, which
    is the uniform distribution; predictions are to match that, and the mean prediction of images
    nearby. Afterwards the paper takes predictions for unknown whose entropy is more than 0.55 of
    the largest; ``--open-set`` does so for any method, by `Network.with_unknown`. In train mode
    batch norms follow the target's batches. Source: Upcycling Models under Domain and Category
    Shift (Qu et al., 2023).

    How many clusters the target has is chosen by the silhouette once, on the features themselves,
    where the released code projects them by t-SNE first. Features are centred before clustering,
    which the batch norm of the paper's bottleneck does there.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train or eval.
        pseudo: The weight of the labels of clusters.
        neighbours: How many images nearby a prediction is to agree with.
        floor: The least prior of a class.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"
    task: Classification
    features: Tensor
    scores: Tensor
    targets: Tensor
    clusters: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        batchnorm: Literal["train", "eval"] = "train",
        pseudo: float = 0.3,
        neighbours: int = 4,
        floor: float = 0.75,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.pseudo, self.neighbours = lr, batchnorm, pseudo, neighbours
        self.floor = floor

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Find how many clusters the target has; make room for the banks."""
        seen = self._seen(data)
        counts = sorted({max(2, int(share * self.task.classes)) for share in SHARES})
        clusters = cluster_count(F.normalize(centre_rows(seen.features)), counts)
        for name, rows in (("features", seen.features), ("scores", seen.logits)):
            self.register_buffer(name, torch.zeros_like(scatter_rows(seen.index, rows)))
        self.register_buffer("targets", torch.zeros_like(self.scores))
        self.register_buffer("clusters", torch.tensor(clusters))
        return {"clusters": clusters}

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Give every image its class or none, and fill the banks."""
        seen = self._seen(data)
        index, features, probabilities = seen.index, seen.features, seen.logits.softmax(1)
        clusters, middle = int(self.clusters), centre_rows(features)
        targets = one_vs_all(middle, probabilities, clusters=clusters, floor=self.floor)
        self.features.copy_(scatter_rows(index, F.normalize(features), len(self.features)))
        self.scores.copy_(scatter_rows(index, probabilities, len(self.scores)))
        self.targets.copy_(scatter_rows(index, targets, len(self.targets)))

    def _seen(self, data: Domains) -> Collected:
        return collect(self.net.body, self.net.head, data.unlabeled())

    def groups(self) -> list[Group]:
        """Train the body alone."""
        return [Group(self.net.body, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the clusters, and for what the neighbours say."""
        index, features = batch.unlabeled.index, self.net.body(batch.unlabeled.x)
        logits = self.net.head(features)
        near = neighbours(features, self.features, index, self.neighbours)
        terms = {
            "pseudo": self.pseudo * self.task.loss(logits, self.targets[index]),
            "agree": self.task.loss(logits, self.scores[near].mean(1)),
        }
        return Objective(terms, logits, features)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, then write what was seen into the banks."""
        done = super().step(batch, descend)
        assert done.features is not None
        update_rows_(self.features, batch.unlabeled.index, F.normalize(done.features))
        update_rows_(self.scores, batch.unlabeled.index, done.logits.softmax(1))
        return done
