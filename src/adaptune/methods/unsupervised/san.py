"""Soft contrast of the target's views, and a head that knows what is unknown."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.layers.all_in_one import AllInOne, all_in_one_losses, open_logits, openness
from adaptune.networks.network import Network
from adaptune.ops.soft_contrast import soft_contrast
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class SAN(Method):
    """Learn for every class what is unknown to it, and features that views of an image agree on.

    The head has a known and an unknown output for each class, in one softmax: of a source image its
    class is known, and the class nearest among the others says unknown. On the target, embeddings
    of images and of a view of each are to be as alike as their features are, under a heavy-tailed
    kernel (`soft_contrast`), so that a view that went far from its image pulls less; and each class
    is to decide. Source: Boosting Novel Category Discovery Over Domains with Soft Contrastive
    Learning and All-in-One Classifier (Zang et al., 2023).

    The paper calls unknown what has a larger unknown output than known ones. A saved network keeps
    both outputs (`AllInOne`) and answers by one logit a class, as even as unknown outputs are
    large; so ``--open-set`` and its threshold on uncertainty reject what they call unknown, by the
    paper's own border at 0.74 of eight classes and 0.75 of six (``--unknown-above``).

    In train mode batch norms take the target's images and views together, and the source as
    ``passes`` says; running statistics follow, under ``apart``, the default, the target alone: of
    handwritten digits in another light, four of ten unknown, the H-score was 80 so, 55 with
    ``separate`` and 0 with ``joint``.

    Losses, their default weights and degrees of freedom are those of the released code. There the
    similarity of views is that of a distance far below the nearest neighbour's, gradients go
    through it, and its unit is fixed for one network; ``near`` and ``width`` are ours. There the
    classifier reads the embedding, behind a batch norm, by rows of length one; here it reads
    features, and the embedding, without batch norm, is dropped when the network is saved.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        unknown: How much the softmax of known and unknown counts.
        contrast: How much the soft contrast counts.
        decided: How much it counts that each class decides on target images.
        lead: How much it counts within ``unknown`` that known outputs exceed unknown ones.
        nearest: Over how many classes the softmax goes, the label's and those likeliest.
        near: By how much the squared distance of an image and its view is divided.
        width: The kernel's width on features, in mean squared distances of a batch.
        new: How many times as fast head and embedding learn, that start at random.
        hidden: The units of the embedding's hidden layer; it has half as many outputs.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True, views=1)
    setting: ClassVar[str] = "unsupervised"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "apart",
        unknown: Annotated[float, Between(0.1, 10.0)] = 1.0,
        contrast: Annotated[float, Between(0.01, 1.0)] = 0.1,
        decided: Annotated[float, Between(0.01, 1.0)] = 0.1,
        lead: float = 1.5,
        nearest: int = 20,
        near: float = 10.0,
        width: Annotated[float, Between(0.05, 1.0)] = 0.2,
        new: float = 1.0,
        hidden: int = 512,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if nearest < 2 or near <= 0 or width <= 0:
            raise ValueError("the softmax needs two classes, near and width are above 0")
        self.lr, self.batchnorm, self.passes, self.unknown = lr, batchnorm, passes, unknown
        self.contrast, self.decided, self.lead, self.nearest = contrast, decided, lead, nearest
        self.near, self.width, self.new, self.hidden = near, width, new, hidden
        net.operate("all-in-one")
        self.embedding = nn.Sequential(
            nn.Linear(net.width, hidden), nn.LeakyReLU(), nn.Linear(hidden, max(1, hidden // 2))
        )
        self.both = DomainPasses(net.body, passes)

    @property
    def head(self) -> AllInOne:
        """The network's head, with what is unknown to each class."""
        assert isinstance(self.net.head, AllInOne)
        return self.net.head

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train the body slowly, what starts at random fast."""
        fast = self.new * self.lr
        return [
            Group(self.net.body, self.lr),
            Group(self.net.head, fast),
            Group(self.embedding, fast),
        ]

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels, for what is unknown, for decisions and for views that agree softly."""
        theirs, y = batch.unlabeled, batch.labeled.y
        seen = torch.cat([theirs.x, *theirs.views])
        ours, others = self.both(self.net.body, batch.labeled.x, seen)
        known, unknown = self.head.both(ours)
        losses = all_in_one_losses(known, unknown, y, lead=self.lead, nearest=self.nearest)
        features = torch.cat([join(part) for part in others.chunk(2)])
        alike = soft_contrast(features, self.embedding(features), near=self.near, width=self.width)
        terms = {
            "task": self.task.loss(known, y),
            "unknown": self.unknown * losses.mean(),
            "contrast": self.contrast * alike,
            "decided": self.decided * openness(*self.head.both(others[: len(theirs)])),
        }
        return Objective(terms, open_logits(known, unknown), ours)
