"""Classes told by sub-prototypes of a memory, and clusters of the target matched with them."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.layers.sub_prototypes import SubPrototypes
from adaptune.networks.network import Network
from adaptune.ops.banks import bank_size, collect, collect_labeled
from adaptune.ops.cluster_matching import MatchedClusters, contrastive_discrepancy, match_clusters
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate

SHARES = (1.0, 1.5, 2.0, 3.0)
"""Clusters that are tried for the target, as multiples of the number of classes."""


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
        self.parts, self.nearest, self.encoder, self.memory = parts, nearest, encoder, memory
        self.discrepancy, self.told, wide = discrepancy, told, net.width
        self.both = DomainPasses(self.prototypes.body, passes)
        self.decoder = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide))

    @property
    def prototypes(self) -> SubPrototypes:
        """The network's body: an encoder, and the memory behind it."""
        assert isinstance(self.net.body, SubPrototypes)
        return self.net.body

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Begin the memory at features of the source; make room for what the target is."""
        notes = super().prepare(data)
        self.both.start(self.prototypes.body)
        features = collect_labeled(self.prototypes.body, data.scan("train"))[0]
        self.prototypes.begin(features)
        most, width = int(SHARES[-1] * self.task.classes), self.net.width
        matched = MatchedClusters(rows=bank_size(data.unlabeled())[0], most=most, width=width)
        self.matched = matched.to(features.device)
        return notes

    def refresh(self, data: Domains) -> None:
        """Cluster the target as the memory tells it, and match clusters with classes."""
        ours, y = collect_labeled(self.net.body, data.scan("train"))
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        k, counts = self.task.classes, sorted({int(one * self.task.classes) for one in SHARES})
        found = match_clusters(ours, y, seen.features, classes=k, counts=counts)
        self.matched.take(found, seen.index)

    def groups(self) -> list[Group]:
        """Train memory, head and decoder, and the encoder if it is to learn."""
        memory, encoder = nn.ParameterList([self.prototypes.memory]), self.prototypes.body
        times = (1.0, 1.0, self.memory, self.encoder)
        found = zip((self.net.head, self.decoder, memory, encoder), times, strict=True)
        return [Group(module, fast * self.lr) for module, fast in found]

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels, for matched classes that agree, for clusters and for features."""
        x, theirs, y = batch.labeled.x, batch.unlabeled, batch.labeled.y
        with torch.set_grad_enabled(self.encoder > 0 and torch.is_grad_enabled()):
            seen = torch.cat(self.both(self.prototypes.body, x, theirs.x))
        read = self.prototypes.read(seen)
        ours, others = read[: len(x)], read[len(x) :]
        logits, labels = self.net.head(ours), gather(self.matched.labels[theirs.index])
        k, share = self.task.classes, math.exp(-3 * (1 - batch.progress))
        apart = contrastive_discrepancy(join(ours), gather(y), join(others), labels, k)
        terms = {
            "task": self.task.loss(logits, y),
            "discrepancy": self.discrepancy * apart,
            "clusters": share * self.matched.loss(others, theirs.index),
            "told": self.told * F.mse_loss(self.decoder(read), seen.detach()),
        }
        return Objective(terms, logits, ours)
