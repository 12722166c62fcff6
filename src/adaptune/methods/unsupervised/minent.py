"""Entropy minimisation beside the labels of the source."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.information import uncertainty
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class MinEnt(Method):
    """Learn the labels of the source, and be certain of the target.

    The mean entropy of predictions on the target, as a share of the largest, goes down beside the
    source's cross-entropy. What is certain already, or not at all, has no gradient. Nothing holds
    classes in their shares: where batch norms are held, domains lie far apart and the weight is
    large, a class can be lost to another. It is the part of the paper without an adversary. Source:
    ADVENT: Adversarial Entropy Minimization for Domain Adaptation in Semantic Segmentation (Vu et
    al., 2019).

    In train mode what batch norms normalise by is said by ``passes``, as in `dann`: each domain's
    own batch, both of which running statistics follow in turn (``separate``), or with the source's
    statistics kept apart (``apart``), or what both have together (``joint``). The released code
    takes a pass each.

    The paper's second weight, for an output of an inner layer, is left out, and so are its training
    on a range of entropies alone and its prior of classes. Images with one prediction are ours.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        weight: How much certainty on the target counts, by default as much as in the paper.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        weight: Annotated[float, Between(1e-4, 1.0)] = 0.001,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes, self.weight = lr, batchnorm, passes, weight
        self.both = DomainPasses(net.body, passes)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the source, and for certainty on the target."""
        ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        logits = self.net.head(ours)
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "entropy": self.weight * uncertainty(self.net.head(theirs)).mean(),
        }
        return Objective(terms, logits, ours)
