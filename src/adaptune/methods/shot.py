"""Source hypothesis transfer."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.banks import bank_size, collect, scatter_rows
from adaptune.ops.clustering import centroid_labels
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective


class SHOT(Method):
    """Make sure and diverse predictions on the target, and their own labels, under a fixed head.

    The network was trained on the source, which is not needed any more. Only the body moves: down
    the mean entropy of predictions less the entropy of their mean, and the cross-entropy to the
    label of the nearest centroid, found anew before every epoch. In train mode batch norms follow
    the target's batches. Source: Do We Really Need to Access the Source Data? (Liang, Hu and Feng,
    2020).

    The paper also puts a bottleneck of 256 features and a weight-normalised head on the network
    and trains the source with smoothed labels; here the network is taken as it is.

    Args:
        lr: The body's rate, by default the paper's of the backbone.
        batchnorm: What batch norms do: train or eval.
        pseudo: The weight of the labels of centroids.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"
    labels: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        batchnorm: Literal["train", "eval"] = "train",
        pseudo: float = 0.3,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.pseudo = lr, batchnorm, pseudo

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Make room for a label of every image."""
        places, _ = bank_size(data.unlabeled())
        labels = torch.zeros(places, dtype=torch.int64, device=self.net.head.weight.device)
        self.register_buffer("labels", labels)
        return {}

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Label every image by the centroid nearest to it."""
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        labels = centroid_labels(seen.features, seen.logits.softmax(1))
        self.labels.copy_(scatter_rows(seen.index, labels, len(self.labels)))

    def groups(self) -> list[Group]:
        """Train the body alone."""
        return [Group(self.net.body, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for sure, diverse predictions and the labels of the centroids."""
        logits = self.net(batch.unlabeled.x)
        terms = {
            "certain": entropy(logits).mean(),
            "diverse": -marginal_entropy(join(logits)),
            "pseudo": self.pseudo * self.task.loss(logits, self.labels[batch.unlabeled.index]),
        }
        return Objective(terms, logits)
