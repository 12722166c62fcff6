"""Deep CORAL: correlation alignment."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.ops.covariances import covariance_distance
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class CORAL(Method):
    """Let the covariances of source and target agree, in the logits or in the features.

    ``weight`` times the squared Frobenius distance of the two domains' covariances over a batch,
    divided by four times the squared number of columns, beside the labels' loss. Means are left
    alone. Source: Deep CORAL (Sun and Saenko, 2016).

    The paper aligns the last layer, the logits, and so does this; many others align the features
    that the head reads, which ``layer="features"`` does. The paper chooses the weight anew for
    each data set, so that at the end both terms are about alike; the 1.0 here is ours. On several
    processes covariances are those of all their rows.

    In train mode what batch norms normalise by is said by ``passes``: ``joint``, what both domains
    of a batch have together; ``separate``, each domain's own batch, both of which running
    statistics follow in turn; ``apart``, the same with statistics of each domain's own, the
    target's in predictions. The paper, whose network has no batch norm, does not say.

    Args:
        lr: The rate of everything; the paper's head learns ten times as fast as its body.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        weight: How much the distance of covariances counts.
        layer: What is aligned: the logits or the features.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        weight: Annotated[float, Between(0.1, 100.0)] = 1.0,
        layer: Literal["logits", "features"] = "logits",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes = lr, batchnorm, passes
        self.weight, self.layer = weight, layer
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
        """Ask for the labels of the source, and for covariances that agree."""
        ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        logits = self.net.head(ours)
        aligned = (ours, theirs) if self.layer == "features" else (logits, self.net.head(theirs))
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "covariances": self.weight * covariance_distance(*map(join, aligned)),
        }
        return Objective(terms, logits, ours)
