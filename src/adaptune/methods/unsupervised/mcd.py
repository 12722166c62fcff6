"""Two classifiers that disagree on the target, and features on which they cannot."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Needs, Objective, Rate


def classifier_discrepancy(one: Tensor, other: Tensor) -> Tensor:
    """Give the mean over places and classes of ``|p - q|``, probabilities by logits (N, K, ...).

    >>> sure = torch.tensor([[99.0, 0.0]])
    >>> float(classifier_discrepancy(sure, -sure)), float(classifier_discrepancy(sure, sure))
    (1.0, 0.0)
    """
    return (one.softmax(1) - other.softmax(1)).abs().mean()


class MCD(Method):
    """Learn features on which two heads agree that were pushed apart on the target.

    Every batch takes three kinds of steps. All modules go down the cross-entropies of both heads
    on the source. Then the heads alone go down these minus their discrepancy on the target, the
    mean over rows and classes of how far their probabilities are apart, and so find images that
    lie far from the source. Then the body alone goes down that discrepancy, ``repeats`` times.
    The head of the network predicts; the ``second`` one is not saved with it.

    Source and target go through the body as ``passes`` says, also where only the heads learn: in
    train mode batch norms normalise each domain by its own batch (``separate``, ``apart``) or both
    by what they have together (``joint``: then the other domain goes along in every pass). Running
    statistics, which predictions use, follow every pass, and most passes are the target's; under
    ``apart`` they follow the target alone, and the source has its own. Where they are held and the
    domains lie far apart, agreement can lead a whole class to the side of another. Source:
    Maximum Classifier Discrepancy for Unsupervised Domain Adaptation (Saito et al., 2018).

    The steps were compared with the released code, not with the paper's text. There classifiers
    have two or more layers, here one. Its rate is the same for all, 0.0002 by Adam for digits,
    0.001 for VisDA with momentum in the classifiers alone. It scores each classifier, for digits
    also their sum. For digits it takes separate passes, the default. For VisDA it takes both
    domains in one, and asks for classes in equal shares at a weight of 0.01: left out.

    Args:
        lr: The body's rate, at which it takes 1 + ``repeats`` steps a batch with one momentum.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        repeats: How many steps a batch the body takes towards agreement.
        new: How many times as fast heads learn, that start at random.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.003,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        repeats: int = 4,
        new: float = 10.0,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if repeats < 1:
            raise ValueError(f"the body takes at least one step towards agreement: got {repeats}")
        self.lr, self.batchnorm, self.repeats, self.new = lr, batchnorm, repeats, new
        self.passes = passes
        self.second, self.both = net.fresh_head(), DomainPasses(net.body, passes)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train the body slowly, both heads fast."""
        fast = self.new * self.lr
        return [
            Group(self.net.body, self.lr),
            Group(self.net.head, fast),
            Group(self.second, fast),
        ]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything down the source, the heads apart, then the body to where they agree."""
        descend(partial(self.labels, batch))
        apart = descend(partial(self.apart, batch), self.net.head, self.second)
        for _ in range(self.repeats):
            agreed = descend(partial(self.agreement, batch), self.net.body)
        return Objective(apart.terms | agreed.terms, apart.logits, apart.features)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the source and for agreement, which `step` goes down in turn."""
        labels, agreement = self.labels(batch), self.agreement(batch)
        return Objective(labels.terms | agreement.terms, labels.logits, labels.features)

    def labels(self, batch: Batch) -> Objective:
        """Ask both heads for the labels of the source."""
        ours = self.both.source(self.net.body, batch.labeled.x, batch.unlabeled.x)
        return self._read(ours, batch.labeled.y)

    def apart(self, batch: Batch) -> Objective:
        """Ask both heads for the labels of the source, and to disagree on the target."""
        with torch.no_grad():
            ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        labels = self._read(ours, batch.labeled.y)
        apart = -classifier_discrepancy(self.net.head(theirs), self.second(theirs))
        return Objective(labels.terms | {"apart": apart}, labels.logits, ours)

    def agreement(self, batch: Batch) -> Objective:
        """Ask for features of the target on which the heads agree."""
        features = self.both.target(self.net.body, batch.unlabeled.x, batch.labeled.x)
        logits = self.net.head(features)
        agreement = classifier_discrepancy(logits, self.second(features))
        return Objective({"agreement": agreement}, logits, features)

    def _read(self, features: Tensor, y: Tensor) -> Objective:
        """Ask both heads for the labels of features (N, D)."""
        logits = self.net.head(features)
        second = self.task.loss(self.second(features), y)
        return Objective({"task": self.task.loss(logits, y), "second": second}, logits, features)
