"""Prototypes of few images of a target, and made features of what is unknown."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.ops.adversary import critic
from adaptune.ops.episodes import ask, asked_terms, draw_episode, follow
from adaptune.ops.made_features import MadeFeatures
from adaptune.runtime.inputs import in_eval
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class DAFOS(Method):
    """Learn features by episodes in which some classes are known, and answer by a few prototypes.

    DATA is the source, the last ``--source NAME=DIR`` holds the few labelled images of the target.
    In every batch an episode is drawn: some classes are known, their support makes prototypes in
    each domain, other images of these are asked for the nearest, all others are outliers. Two
    generators make features of a class and noise: little noise, and they join the prototypes; much,
    and they join the outliers. Networks tell outliers and domains by the smallest distances to
    prototypes; a triplet term holds prototypes to their own, another aligns both domains'. Source:
    Domain Adaptive Few-Shot Open-Set Learning (Pal et al., 2023).

    What is saved is a plain network: a squared distance to a prototype is linear in the features
    but for what all classes share, so the head's weights are the target's prototypes, a running
    mean. Networks of outliers and domains only shape features; what is unknown is said by
    ``--open-set``'s threshold. All rows of a batch go through batch norms together in train mode,
    and running statistics follow.

    Terms and weights are the released code's but for these. Its class term, 40 times a mean
    probability, is a cross-entropy here, of weight 1; its signed alignment, of weight 50, is a
    square of weight 1, without the weights of batch norms, which both domains share here. It draws
    episodes with a sampler of its own, of classes that the target lacks; here they are of a batch's
    rows and of the target's classes. Its generators move by 0.003 of one step (Reptile), here by
    whole ones, with their judges; of two terms that hold noises apart the paper's is taken. Its
    networks read three classes' distances, here the ``ways`` smallest in order; and ``scale`` is
    ours. Where the few images show every class, fine-tuning on them does better: of handwritten
    digits in another light, three a class, it reached 89% and this 73%, the source alone 30%.

    Args:
        lr: The rate of the body and of the networks of outliers and domains.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        ways: How many classes of an episode are known.
        support: How many source images of a class make a prototype; of the target it is one.
        outlier: How much outliers count.
        side: How much it counts to tell domains by distances.
        align: How much the alignment of prototypes counts.
        scale: By how much a mean squared difference of features is multiplied.
        hidden: The units of the hidden layer of every network that is added.
        keep: How much of the head's prototypes stays in a step.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "few-shot"
    task: Classification
    net: Network[Readout]
    prototypes: Tensor

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        ways: int = 3,
        support: int = 4,
        outlier: Annotated[float, Between(0.03, 3.0)] = 0.3,
        side: float = 0.05,
        align: Annotated[float, Between(0.1, 100.0)] = 1.0,
        scale: Annotated[float, Between(1.0, 100.0)] = 10.0,
        hidden: int = 64,
        keep: float = 0.9,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if ways < 1 or support < 1:
            raise ValueError(f"an episode has classes and images: got {ways} and {support}")
        self.lr, self.batchnorm, self.ways, self.support = lr, batchnorm, ways, support
        self.outlier, self.side, self.align, self.scale = outlier, side, align, scale
        self.hidden, self.keep = hidden, keep
        self.outliers, self.sides = critic(ways, hidden), critic(ways, hidden)
        self.features = MadeFeatures(width=net.width, classes=task.classes, hidden=hidden)
        self.register_buffer("prototypes", torch.zeros(task.classes, net.width))

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Take the target's images for prototypes, as the network sees them now."""
        with in_eval(self.net.body):
            seen = [(self.net.body(one.x), one.y, one.domain) for one in data.scan("train")]
        parts = [torch.cat(part) for part in zip(*seen, strict=True)] or [torch.empty(0)] * 3
        self._remember(parts[0], parts[1], parts[2], 0.0)

    def groups(self) -> list[Group]:
        """Train all but the head, which is written."""
        learn = (self.net.body, self.outliers, self.sides, self.features)
        return [*(Group(one, self.lr) for one in learn), Group(self.net.head, 0.0)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, then let the head's prototypes follow."""
        done, rows = super().step(batch, descend), batch.labeled
        assert done.features is not None
        self._remember(done.features.detach(), rows.y, rows.domain, self.keep)
        return done

    def objective(self, batch: Batch) -> Objective:
        """Ask for classes of queries, for outliers, domains, prototypes, and made features."""
        some, features = batch.labeled, self.net.body(batch.labeled.x)
        rows, y, target = join(features), gather(some.y), self._far(gather(some.domain))
        shots, terms = (self.support, 1), {"task": 0 * features.sum()}
        found = draw_episode(y, target, classes=self.task.classes, ways=self.ways, shots=shots)
        if len(found.classes):
            ours, far = (ask(rows, y, self.features(y), found, side) for side in (~target, target))
            ways, scale = self.ways, self.scale
            terms = asked_terms(ours, far, self.outliers, self.sides, ways=ways, scale=scale)
            counts = {"outlier": self.outlier, "domain": self.side, "align": self.align}
            terms |= {name: count * terms[name] for name, count in counts.items()}
        made = self.features.terms(features.detach(), some.y)
        return Objective(terms | made, self.net.head(features.detach()), features)

    def _far(self, domain: Tensor) -> Tensor:
        return domain == self.task.domains - 1

    @torch.no_grad()
    def _remember(self, features: Tensor, y: Tensor, domain: Tensor, keep: float) -> None:
        """Let the head's prototypes follow the rows of the target."""
        seen, y, domain = map(gather, (features.float(), y, domain))
        far = self._far(domain)
        self.prototypes.copy_(follow(self.prototypes, seen[far], y[far], keep))
        share = self.scale / self.net.width
        bias = -share * self.prototypes.square().sum(1)
        self.net.head.take_raw(2 * share * self.prototypes, bias)
