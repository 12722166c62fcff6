"""Source hypothesis transfer."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.banks import bank_size, collect, scatter_rows
from adaptune.ops.clustering import centroid_labels, class_directions, nearest_direction
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.ops.rows import rows
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import join
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective, Unlabeled


class SHOT(Method):
    """Make sure and diverse predictions on the target, and their own labels, under a fixed head.

    The network was trained on the source, which is not needed any more. Only the body moves: down
    the mean entropy of predictions less the entropy of their mean, and the cross-entropy to the
    label of the nearest centroid, found anew before every epoch. In train mode batch norms follow
    the target's batches. Source: Do We Really Need to Access the Source Data? (Liang, Hu and Feng,
    2020).

    The paper also puts a bottleneck of 256 features and a weight-normalised head on the network
    and trains the source with smoothed labels; here the network is taken as it is.

    The paper is of one class an image. Where every place has one, places are the rows, which is
    ours: centroids are those of all of the target's places, added up over two passes, and a place
    has the label that the body as the epoch began gives it, a frozen copy in eval mode. It sees
    the very batch, since a label that was kept would not move with an image that augmentation
    moves.

    Args:
        lr: The body's rate, by default the paper's of the backbone.
        batchnorm: What batch norms do: train or eval.
        pseudo: The weight of the labels of centroids.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "source-free"
    labels: Tensor
    directions: Tensor

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        batchnorm: Literal["train", "eval"] = "train",
        pseudo: float = 0.3,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.pseudo = lr, batchnorm, pseudo
        self.size = net.width, task.classes
        self.before: nn.Module = nn.Identity()
        if task.places:
            self.before = deepcopy(net.body).requires_grad_(False)
            self.register_buffer("directions", torch.zeros(task.classes, net.width + 1))

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Make room for a label of every image, where each has one."""
        if not self.task.places:
            places, _ = bank_size(data.unlabeled())
            labels = torch.zeros(places, dtype=torch.int64, device=self.net.head.weight.device)
            self.register_buffer("labels", labels)
        return {}

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Find the centroids, and label every image by the one nearest to it."""
        if self.task.places:
            self.before.load_state_dict(self.net.body.state_dict())
            self.directions.copy_(class_directions(partial(self._seen, data), *self.size))
            return
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        labels = centroid_labels(seen.features, seen.logits.softmax(1))
        self.labels.copy_(scatter_rows(seen.index, labels, len(self.labels)))

    def _seen(self, data: Domains) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the target's places: features and probabilities."""
        with in_eval(self.net):
            for some in data.unlabeled():
                features = self.net.body(some.x)
                logits = self.net.head(features).float()
                yield rows(features).float(), rows(logits).softmax(1)

    @torch.no_grad()
    def pseudo_labels(self, some: Unlabeled) -> Tensor:
        """Give the labels of a batch, (N,), or of the places of its features, (N, h, w)."""
        if not self.task.places:
            return self.labels[some.index]
        with in_eval(self.before):
            features = self.before(some.x)
        nearest = nearest_direction(rows(features).float(), self.directions)
        return nearest.view(len(features), *features.shape[2:])

    def groups(self) -> list[Group]:
        """Train the body alone."""
        return [Group(self.net.body, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for sure, diverse predictions and the labels of the centroids."""
        logits = self.net(batch.unlabeled.x)
        terms = {
            "certain": entropy(logits).mean(),
            "diverse": -marginal_entropy(join(rows(logits))),
            "pseudo": self.pseudo * self.task.loss(logits, self.pseudo_labels(batch.unlabeled)),
        }
        return Objective(terms, logits)
