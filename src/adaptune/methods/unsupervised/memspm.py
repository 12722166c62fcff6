"""Classes told by sub-prototypes of a memory, and clusters of the target matched with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.layers.sub_prototypes import SubPrototypes
from adaptune.networks.network import Network
from adaptune.ops.banks import bank_size, collect, scatter_rows
from adaptune.ops.cluster_matching import NONE, contrastive_discrepancy, match_clusters
from adaptune.ops.clustering import kmeans
from adaptune.runtime.processes import broadcast_from_first, gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import (
    Batch,
    BatchNormPolicy,
    Between,
    Domains,
    Group,
    Labeled,
    Needs,
    Objective,
    Rate,
)

SHARES = (1.0, 1.5, 2.0, 3.0)
"""Clusters that are tried for the target, as multiples of the number of classes."""

HEAT = 0.1
"""The temperature of cosines with the centres of clusters."""


class MemSPM(Method):
    """Tell images by the nearest sub-prototypes of a memory, and match clusters with classes there.

    The encoder's weights stay. Its features ask a memory of ``items``, each of some ``parts``: of
    every item the part nearest by cosine, of these the ``nearest`` by a softmax; their mean is what
    the head reads. Before every epoch clusters of the target are matched with classes of the source
    in that space, each the other's nearest. Terms: the labels; a discrepancy between domains, small
    within a class and large between classes, of the images so matched; cosines that tell to which
    cluster an image belongs, at 0.05 of the weight of labels first and 1 in the end; and features
    told again by a decoder from what the memory gave. Source: Memory-Assisted Sub-Prototype Mining
    for Universal Domain Adaptation (Lai et al., 2024), with Domain Consensus Clustering (Li et al.,
    2021).

    In train mode batch norms of the encoder take each domain as ``passes`` says and running
    statistics follow, under ``apart`` the target's alone; ``eval`` freezes them too.

    Of the paper are the memory, its addressing by cosine with a threshold at the largest weights,
    the frozen encoder and the losses, as its abstract, its figure and reviews tell them; matching
    and its losses are from the released code of Domain Consensus Clustering, with their weights.
    Its encoder is CLIP's and its decoder makes images: here they are the given network's body, and
    features. How many items there are and how many count, that the memory begins at source images
    of as many clusters, the weight of the reconstruction, and that a class is compared by the
    images of the batch at hand are ours. Unknown is what ``--open-set``'s threshold rejects: of the
    paper's rule only this is known here, and a fixed one of 0.55 rejected nearly nothing of digits.

    Args:
        lr: The rate of head and decoder.
        batchnorm: What the encoder's batch norms do: train, eval or converted (DAFT's conversion).
        passes: How both domains go through batch norms: joint, separate or apart.
        items: How many items the memory has.
        parts: How many sub-prototypes an item has.
        nearest: How many items tell what an image is.
        discrepancy: How much the discrepancy counts.
        told: How much the reconstruction counts.
        memory: How many times as fast the memory learns, of which an image reads a small part.
        encoder: How many times as fast as the head the encoder learns; 0 freezes it.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    task: Classification
    net: Network[Readout]
    labels: Tensor
    clusters: Tensor
    centres: Tensor

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "apart",
        items: int = 64,
        parts: int = 40,
        nearest: int = 5,
        discrepancy: Annotated[float, Between(0.01, 1.0)] = 0.1,
        told: Annotated[float, Between(0.01, 1.0)] = 0.1,
        memory: Annotated[float, Between(10.0, 1000.0)] = 300.0,
        encoder: float = 0.0,
    ) -> None:
        net.operate("sub-prototypes", items=items, parts=parts, nearest=nearest)
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes, self.items = lr, batchnorm, passes, items
        self.parts, self.nearest, self.encoder = parts, nearest, encoder
        self.discrepancy, self.told, self.memory = discrepancy, told, memory
        self.both = DomainPasses(self.prototypes.body, passes)
        self.decoder = nn.Sequential(
            nn.Linear(net.width, net.width), nn.ReLU(), nn.Linear(net.width, net.width)
        )

    @property
    def prototypes(self) -> SubPrototypes:
        """The network's body: an encoder, and the memory behind it."""
        assert isinstance(self.net.body, SubPrototypes)
        return self.net.body

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Begin the memory at features of the source; make room for what the target is."""
        notes = super().prepare(data)
        self.both.start(self.prototypes.body)
        features, _ = self._source(self.prototypes.body, data)
        centres = kmeans(features, self.items)
        own = torch.cdist(features, centres).argmin(1)
        members = F.one_hot(own, len(centres)).T.to(features)
        rows = broadcast_from_first(lambda: members.multinomial(self.parts, replacement=True))
        item = torch.arange(self.items, device=features.device) % len(centres)
        self.prototypes.memory.copy_(features[rows.to(features.device)[item]])
        places, _ = bank_size(data.unlabeled())
        for name in ("labels", "clusters"):
            self.register_buffer(name, torch.full((places,), NONE, device=features.device))
        most = int(SHARES[-1] * self.task.classes)
        self.register_buffer("centres", features.new_zeros(most, self.net.width))
        return notes

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Cluster the target as the memory tells it, and match clusters with classes."""
        ours, y = self._source(self.net.body, data)
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        counts = sorted({int(share * self.task.classes) for share in SHARES})
        found = match_clusters(ours, y, seen.features, classes=self.task.classes, counts=counts)
        for room, rows in ((self.labels, found.labels), (self.clusters, found.clusters)):
            room.copy_(scatter_rows(seen.index, rows, len(room)))
        self.centres.zero_()[: len(found.centres)] = found.centres

    def _source(self, body: nn.Module, data: Domains) -> tuple[Tensor, Tensor]:
        """Give what a body makes of all source images, and their labels, in order."""
        told: list[tuple[Tensor, Tensor]] = []

        def noted() -> Iterator[Labeled]:
            for rows in data.scan("train"):
                told.append((rows.index, rows.y))
                yield rows

        features = collect(body, nn.Identity(), noted()).features
        none = torch.empty(0, dtype=torch.int64)
        parts = [torch.cat(part) for part in zip(*told, strict=True)] or [none, none]
        index, y = map(gather, parts)
        return features, y[index.argsort(stable=True)]

    def groups(self) -> list[Group]:
        """Train memory, head and decoder, and the encoder if it is to learn."""
        learn = [Group(one, self.lr) for one in (self.net.head, self.decoder)]
        learn.append(Group(nn.ParameterList([self.prototypes.memory]), self.memory * self.lr))
        if self.encoder:
            learn.append(Group(self.prototypes.body, self.encoder * self.lr))
        return learn

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels, for matched classes that agree, for clusters and for features."""
        x, theirs, y = batch.labeled.x, batch.unlabeled, batch.labeled.y
        with torch.set_grad_enabled(self.encoder > 0 and torch.is_grad_enabled()):
            seen = torch.cat(self.both(self.prototypes.body, x, theirs.x))
        read = self.prototypes.read(seen)
        ours, others = read.split([len(x), len(theirs)])
        logits, labels = self.net.head(ours), self.labels[theirs.index]
        apart = contrastive_discrepancy(
            join(ours), gather(y), join(others), gather(labels), self.task.classes
        )
        cosines = F.normalize(others) @ self.centres.T / HEAT
        cosines = cosines.masked_fill(~self.centres.any(1), -torch.inf)
        share = math.exp(-3 * (1 - batch.progress))
        terms = {
            "task": self.task.loss(logits, y),
            "discrepancy": self.discrepancy * apart,
            "clusters": share * F.cross_entropy(cosines, self.clusters[theirs.index]),
            "told": self.told * F.mse_loss(self.decoder(read), seen.detach()),
        }
        return Objective(terms, logits, ours)
