"""Few-shot segmentation across domains by prompts of regions."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.layers.region_prompts import PrototypeHead
from adaptune.networks.network import Network
from adaptune.ops.class_features import labels_on_grid
from adaptune.ops.pseudo_labels import only_of
from adaptune.ops.self_support import image_prototypes, prototype_logits, refined, supported_by
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import gather, join
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Needs, Objective, Rate


class GPRN(Method):
    """Learn to label an image by the mask of another, and label a target by a few of its masks.

    DATA is the source, the last ``--source NAME=DIR`` holds the few labelled images of the target.
    Features of a region's places have its mean added, and a tenth of what regions alike tell it.
    An image is labelled by prototypes, the classes' mean features in another one: ten times the
    cosine, refined twice by the places that are sure. In training each image of the source in the
    first half of a batch is the support of one in the second; at last the prototypes of the
    target's images, found again after every step, are the head of the network. Source: SAM-Aware
    Graph Prompt Reasoning Network for Cross-Domain Few-Shot Segmentation (Peng et al., 2025).

    Batch norms are held, as in the paper, unless ``batchnorm`` says otherwise; prototypes are found
    in eval mode.

    Terms and shares are those of the released code. Ours: all classes of an image at once, of which
    the first is the background and has a prototype of each place, where there an episode is of one;
    masks on the features' grid by their centres; regions without a place are left out; the graph's
    layer begins as the identity. There the stem, the first stage and what batch norms multiply by
    are frozen, here all learns. There regions are Segment Anything's and it answers at last, at
    points of the prediction: `point_prompts` gives those, and nothing is asked. Each of several
    processes makes pairs of its own images.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        regions: What finds regions: slic (superpixels), grid, or sam:FOLDER.
        support: How many labelled images of the target, its first, are the support.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "few-shot"
    task: Segmentation
    images: Tensor
    masks: Tensor

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Rate = 0.003,
        batchnorm: BatchNormPolicy = "eval",
        regions: str = "slic",
        support: int = 5,
    ) -> None:
        net.operate("region-prompts", regions=regions)
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.regions, self.support = lr, batchnorm, regions, support

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Keep the first images of the target; convert batch norms if the policy says so."""
        notes = super().prepare(data)
        parts = [
            [one.index[own], one.x[own], one.y[own]]
            for one in data.scan("train")
            for own in [one.domain == self.task.domains - 1]
            if own.any()
        ]
        own = [torch.cat(part) for part in zip(*parts, strict=True)] or [torch.empty(0)] * 3
        index, images, masks = map(gather, own)
        first = index.argsort()[: self.support]
        self.register_buffer("images", images[first])
        self.register_buffer("masks", masks[first])
        self.look()
        return notes | {"support": len(first)}

    def groups(self) -> list[Group]:
        """Train everything at one rate; the head is found, not learnt."""
        return [Group(self.net.body, self.lr)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Learn once, and find the prototypes of the target anew."""
        done = descend(partial(self.objective, batch))
        self.look()
        return done

    @torch.no_grad()
    def look(self) -> None:
        """Let the head be the means over the target's images of their prototypes."""
        with in_eval(self.net):
            near, there = self._prototypes(self.net.body(self.images), self.masks)
        head, count = self.net.head, there.sum(0).unsqueeze(1)
        assert isinstance(head, PrototypeHead)
        head.weight.copy_(near.sum(0) / count.clamp_min(1))
        head.there.copy_(count.squeeze(1) > 0)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of each half of the source's images, by the other half's."""
        rows = batch.labeled
        source = (rows.domain < self.task.domains - 1).nonzero().flatten()
        if not (count := len(source) // 2):
            raise ValueError("two source images make a pair: give a larger --batch-size")
        support, query = self.net.body(rows.x[source[: 2 * count]]).tensor_split(2)
        known, y = rows.y[source[: 2 * count]].tensor_split(2)
        near, there = self._prototypes(support, known)
        own_near, own = self._prototypes(query, y)
        known, y = only_of(known, there), only_of(y, there)
        found, itself = refined(query, near, there), prototype_logits(query, own_near, own)
        each = {
            "refined": self.task.losses(found.twice, y),
            "query": self.task.losses(found.once, y),
            "itself": self.task.losses(itself, only_of(y, own)),
            "support": 0.2 * self.task.losses(prototype_logits(support, near, there), known),
            "returned": 0.4 * self.task.losses(supported_by(support, near, found, there), known),
        }
        return Objective({name: join(one).mean() for name, one in each.items()}, found.twice)

    def _prototypes(self, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        labels = labels_on_grid(y, features.shape[2:])
        return image_prototypes(features, labels, self.task.classes)
