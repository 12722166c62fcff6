"""Several losses between two domains, weighed so that none of them is harmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.engine.rules import PerTerm
from adaptune.networks.network import Network
from adaptune.ops.adversary import as_it_is, critic, ramp, reverse
from adaptune.ops.information import information
from adaptune.ops.pareto import pareto_weights
from adaptune.runtime.limits import check_range
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate

WEIGHED = ("task", "domain", "target")
"""Terms whose gradients the body goes down, in the order of their weights."""


class ParetoDA(Method):
    """Weigh the source's labels, hidden domains and a certain target so that none is harmed.

    The body's gradients of three terms are merged by weights that are never negative and sum to
    one, times three: the labels' loss, the adversarial one of `DANN`, and the information of the
    target's predictions about images, mirrored. For the latter each class has a critic of its own
    that tells the domains of features apart, and a class's logit counts as far as its critic takes
    the image for the target's. The weights are those of a linear programme (`ops.pareto`), whose
    guide is the same term of target images that are held out of all others: down it while its
    information is more than ``settled`` below the largest, and then down all three. Source: Pareto
    Domain Adaptation (Lv et al., 2021).

    Held out is a quarter of the target by its index, so that there are some in each batch; the
    paper holds a tenth out and draws batches of it. The released code compares the mirrored
    information itself with ``settled``, which it never exceeds; here it is the distance from the
    largest, as the paper's two phases want it. The head goes down the labels' loss alone. Batch
    norms see held-out images too; how domains pass them is said by ``passes`` as in `DANN`.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        held: The share of the target that only guides.
        settled: How near to the largest the held-out information is when it guides no more.
        hidden: The units of each of the critics' two hidden layers.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        held: Annotated[float, Between(0.1, 0.5)] = 0.25,
        settled: float = 1e-3,
        hidden: int = 1024,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        check_range("--held", held, 0, 1, above=True, below=True)
        self.lr, self.batchnorm, self.passes, self.held = lr, batchnorm, passes, held
        self.settled, self.hidden, self.guided = settled, hidden, True
        self.critic = critic(net.width, hidden)
        self.critics = nn.ModuleList(critic(net.width, hidden) for _ in range(task.outputs))
        self.both = DomainPasses(net.body, passes)
        self.rule = PerTerm(self.merge, net.body, ("guide",))

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(one, self.lr) for one in (self.net, self.critic, self.critics)]

    def merge(self, found: Mapping[str, Tensor]) -> Tensor:
        """Give three times the weighted mean of the gradients (P,)."""
        slopes = torch.stack([found[name] for name in WEIGHED])
        products, along = slopes @ slopes.T, slopes @ found["guide"]
        return len(WEIGHED) * pareto_weights(products, along, guided=self.guided) @ slopes

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, knowing how far the held-out images are from the most they could tell."""

        def evaluate() -> Objective:
            done = self.objective(batch)
            self.guided = bool(done.terms["guide"] > self.settled)
            return done

        return descend(evaluate)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the source's labels, for hidden domains and for a certain, even target."""
        y, index = batch.labeled.y, batch.unlabeled.index
        ours, theirs = self.both(self.net.body, batch.labeled.x, batch.unlabeled.x)
        logits, count = self.net.head(ours), len(ours)
        learnt = ((index + 1) * self.held).floor() == (index * self.held).floor()
        said = self.critic(reverse(torch.cat([ours, theirs]), ramp(batch.progress)))
        alike = as_it_is(self.net.head, theirs)
        shared = torch.cat([one(theirs.detach()) for one in self.critics], 1)
        weighed = alike * shared.detach().neg().sigmoid()
        rows, keep = join(weighed), join(learnt.to(weighed)) > 0.5
        of_source = F.one_hot(y, len(self.critics)).to(shared)
        own = torch.cat([one(ours.detach()) for one in self.critics], 1)
        weight = learnt.to(shared) / (1 - self.held)
        adverse = (
            F.softplus(-said[:count]).mean() + (weight * F.softplus(said[count:])[:, 0]).mean()
        )
        soft = weight[:, None] * weighed.detach().softmax(1)
        by_class = (of_source * F.softplus(-own)).mean() + (soft * F.softplus(shared)).mean()
        terms = {
            "task": self.task.loss(logits, y),
            "domain": adverse / 2,
            "target": -information(rows[keep]),
            "classes": by_class / 2,
            "guide": rows.new_tensor(rows.shape[1]).log() - information(rows[~keep]),
        }
        return Objective(terms, logits, ours)
