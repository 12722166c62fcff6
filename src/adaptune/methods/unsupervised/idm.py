"""Informative data mining."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.class_features import Prototypes, cosines, labels_on_grid
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.ops.mixing import row_draws
from adaptune.ops.patches import most_uncertain, pasted, patch_masks
from adaptune.ops.places import on_grid
from adaptune.ops.pseudo_labels import IGNORED, sure_labels
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import join
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class IDM(Method):
    """Learn a target of one image: patches of it are mixed into the source images that teach most.

    Of a batch's source images the share is taken on which the network is most uncertain. Patches of
    the target, with the labels that the network is sure of, replace some of theirs, and what comes
    of that is learnt. On the target, places are compared with prototypes, the classes' mean
    features on the source: each is to be like one (a low entropy of the softmax of its cosines),
    all together like all (a high entropy of their mean). One image is enough, and is met in every
    batch anew, varied. Source: Informative Data Mining for One-Shot Cross-Domain Semantic
    Segmentation (Wang et al., 2023).

    Mixed images and target go through the body as ``passes`` says: in train mode batch norms
    normalise each by its own batch or both by what they have together, and running statistics
    follow them, under ``apart`` the target alone. Which images teach and what the target's labels
    are is asked in eval mode, by running statistics, which it leaves as they are.

    Known of the paper is its abstract: uncertainty chooses, patches are mixed, prototypes make
    information large. The rest is ours: mean entropy as the uncertainty, within a batch; patches of
    a grid, at their own place; labels by a threshold of probability; prototypes that begin as the
    means over the source and follow each batch; all weights. No styles are transferred. The paper
    starts from a network that has learnt the source: ``--from`` one, or labels come late.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How mixed images and target go through batch norms: joint, separate or apart.
        informative: The share of a batch's source images that is learnt from.
        grid: Into how many patches a side images are cut.
        mixed: The share of patches that are the target's.
        sure: How probable a label of the target must be.
        information: How much prototypes count.
        temperature: What cosines with prototypes are divided by.
        memory: What share of the prototypes stays in a step.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    task: Segmentation

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        informative: float = 0.5,
        grid: int = 8,
        mixed: float = 0.5,
        sure: float = 0.9,
        information: Annotated[float, Between(0.01, 1.0)] = 0.1,
        temperature: float = 0.1,
        memory: float = 0.99,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if grid < 1 or not (0 < informative <= 1 and 0 <= mixed <= 1 and temperature > 0):
            raise ValueError("informative and mixed are shares, grid and temperature above 0")
        self.lr, self.batchnorm, self.passes, self.sure = lr, batchnorm, passes, sure
        self.informative, self.grid, self.mixed = informative, grid, mixed
        self.information, self.temperature, self.memory = information, temperature, memory
        self.both = DomainPasses(net.body, passes)
        self.prototypes = Prototypes(task.classes, net.width)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; find the prototypes of the source."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        self.prototypes.measure(self.net.body, data.scan("train"))
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Mix, learn once, and let the prototypes follow what was seen of the source."""
        x, y, target = self.mix(batch)
        done = descend(partial(self.learn, x, y, batch.unlabeled.x))
        if done.features is not None:
            ours = labels_on_grid(y.masked_fill(target, IGNORED), done.features.shape[2:])
            self.prototypes.follow(done.features.detach(), ours, self.memory)
        return done

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of mixed images, and for a target that is like the prototypes."""
        x, y, _ = self.mix(batch)
        return self.learn(x, y, batch.unlabeled.x)

    @torch.no_grad()
    def mix(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Give mixed images (M, C, H, W), their labels (M, H, W), and what is the target's."""
        source, target = batch.labeled, batch.unlabeled
        size = source.y.shape[1:]
        with in_eval(self.net):
            rows = source.x, source.y, source.index
            x, y, index = most_uncertain(self.net(source.x), self.informative, *rows)
            said = sure_labels(on_grid(self.net(target.x), size), self.sure)
        other = torch.arange(len(x), device=x.device) % len(target)
        draws = row_draws(index, self.grid**2)
        mask = patch_masks(draws, size, grid=self.grid, share=self.mixed)
        return pasted(x, target.x[other], mask), pasted(y, said[other], mask), mask

    def learn(self, x: Tensor, y: Tensor, target: Tensor) -> Objective:
        """Ask for labels (M, H, W) of ``x``, and for a ``target`` that is like the prototypes."""
        ours, theirs = self.both(self.net.body, x, target)
        logits = self.net.head(ours)
        near = cosines(theirs, self.prototypes.means) / self.temperature
        each = near.softmax(1).flatten(2).mean(2).log()
        terms = {
            "mixed": join(self.task.losses(logits, y)).mean(),
            "certain": self.information * entropy(near).mean(),
            "diverse": -self.information * marginal_entropy(join(each)),
        }
        return Objective(terms, logits, ours)
