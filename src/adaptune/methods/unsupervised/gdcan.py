"""Domain-conditioned adaptation with gated paths."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, cast

import torch
from torch import nn

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.networks.layers.domain_attention import (
    CorrectedLinear,
    attentions,
    decide,
    source_first,
)
from adaptune.networks.network import Network
from adaptune.ops.discrepancy import mmd, subset_mmd
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate

soft_mmd = partial(mmd, count=1, bandwidth=1.68)
soft_subset_mmd = partial(subset_mmd, count=1, bandwidth=1.68)


class GDCAN(Method):
    """Let source and target excite channels of their own where they differ, and align the rest.

    Channel attention is put into the network (`domain_attention` says where). Each module lets the
    target take the source's path while the statistics of what it sees differ little, and gives it
    one of its own otherwise; every step decides for the next. The head corrects the target's
    features, then its logits, by what two small networks add. Discrepancies are those between
    source and corrected target, in features and in probabilities, and those between each class and
    some of its own rows, corrected, in features and in logits; the target's entropy is added. All
    predictions take its path.

    In train mode what batch norms normalise by is said by ``passes``: ``joint``, what both domains
    of a batch have together, which running statistics follow; ``separate``, each domain's own
    batch, both of which they follow in turn; ``apart``, the same with statistics of each domain's
    own, the target's in predictions. In eval mode, which the released code keeps to in one pass,
    all are the same. Batch norms make domains alike that have a batch each, so most gates then stay
    shut; between six pairs of emoji vendors accuracy on the target was level, so one pass stays.
    Source: Generalized Domain Conditioned Adaptation Network (Li et al., 2021).

    Terms, weights and the gate are those of the released code, the paper's text was not compared.
    Other than there: batch norms are in train mode, since with frozen ones EfficientNet-Lite0 let
    each domain collapse into a point at every rate tried (0.001 to 0.03); attention starts as the
    identity, since backbones come without a pretrained one, and so do the corrections; weights of
    batch norms learn; discrepancies are over all pairs of rows, and classes share their kernels.
    Rows of a class are drawn by each process anew; there from all rows, which on few classes pulls
    every class to the middle.

    Args:
        lr: The body's rate.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        alignment: The weight of discrepancies.
        certainty: The weight of the target's entropy.
        threshold: The difference of statistics from which on the target has a path of its own.
        reduction: By what the channels of attention are divided in its hidden layer.
        chance: The probability with which each row of a class is drawn.
        new: How many times as fast as the body the head learns.
        slow: How many times as fast as the body the corrections learn.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "joint",
        alignment: Annotated[float, Between(0.1, 10.0)] = 1.5,
        certainty: Annotated[float, Between(0.01, 1.0)] = 0.1,
        threshold: float = 0.2,
        reduction: int = 16,
        chance: float = 0.8,
        new: float = 10.0,
        slow: float = 0.01,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.new, self.slow = lr, batchnorm, new, slow
        self.alignment, self.certainty, self.chance = alignment, certainty, chance
        self.threshold, self.reduction, self.passes = threshold, reduction, passes
        if not attentions(net):
            net.operate("domain-attention", reduction=reduction, threshold=threshold)
        self.both = DomainPasses(net.body, passes)

    @property
    def head(self) -> CorrectedLinear:
        """The head with its corrections."""
        return cast(CorrectedLinear, self.net.head)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train the head fast, its corrections slowly."""
        head, slow = self.head, self.slow * self.lr
        return [
            Group(self.net.body, self.lr),
            Group(nn.ParameterList([head.weight, head.bias]), self.new * self.lr),
            Group(head.features, slow),
            Group(head.logits, slow),
        ]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move everything once, then let every attention choose its paths for the next step."""
        done = descend(partial(self.objective, batch))
        decide(self.net.body)
        return done

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, for domains that agree, and for certainty on the target."""
        body, head, y = self.net.body, self.head, gather(batch.labeled.y)
        paths = partial(source_first, body)
        ours, others = map(join, self.both(body, batch.labeled.x, batch.unlabeled.x, around=paths))
        corrected, count = head.correct(torch.cat([ours, others])), len(y)
        logits, theirs = head.plain(ours), head.read(corrected)
        said = theirs[count:].softmax(1)
        entropy = -(said * theirs[count:].log_softmax(1)).sum(1).mean()
        agreement = mmd(ours, corrected[count:]) + soft_mmd(logits.softmax(1), said)
        own = y == torch.arange(self.task.classes, device=y.device)[:, None]
        chosen = own & (torch.rand(own.shape, device=y.device) < self.chance)
        within = subset_mmd(ours, y, corrected[:count], chosen)
        within = within + soft_subset_mmd(logits, y, theirs[:count], chosen)
        terms = {
            "task": self.task.loss(logits, y),
            "discrepancy": self.alignment * agreement,
            "subsets": self.alignment * within,
            "entropy": self.certainty * entropy,
        }
        return Objective(terms, logits, ours)
