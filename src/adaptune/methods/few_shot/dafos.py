"""Prototypes of few images of a target, and made features of what is unknown."""

from __future__ import annotations

from functools import partial
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
    whole ones; of two terms that hold noises apart the paper's is taken. Its networks read three
    classes' distances, here the ``ways`` smallest in order; and ``scale`` is ours. Where the few
    images show every class, fine-tuning on them does better: of handwritten digits in another
    light, three a class, it reached 89% and this 74%, the source alone 30%.

    Args:
        lr: The rate of the body and of the networks of outliers and domains.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        ways: How many classes of an episode are known.
        shots: How many source images of a class make a prototype at most; of the target it is one.
        outlier: How much outliers count.
        domain: How much it counts to tell domains by distances.
        align: How much the alignment of prototypes counts.
        scale: By how much a mean squared difference of features is multiplied.
        hidden: The units of the hidden layer of every network that is added.
        momentum: How much of the head's prototypes stays in a step.
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
        shots: int = 4,
        outlier: Annotated[float, Between(0.03, 3.0)] = 0.3,
        domain: float = 0.05,
        align: Annotated[float, Between(0.1, 100.0)] = 1.0,
        scale: Annotated[float, Between(1.0, 100.0)] = 10.0,
        hidden: int = 64,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if ways < 1 or shots < 1:
            raise ValueError(f"an episode has classes and images: got {ways} and {shots}")
        self.lr, self.batchnorm, self.ways, self.shots = lr, batchnorm, ways, shots
        self.outlier, self.domain, self.align, self.scale = outlier, domain, align, scale
        self.hidden, self.momentum = hidden, momentum
        self.outliers, self.sides = critic(ways, hidden), critic(ways, hidden)
        self.features = MadeFeatures(width=net.width, classes=task.classes, hidden=hidden)
        self.register_buffer("prototypes", torch.zeros(task.classes, net.width))

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Take the target's images for prototypes, as the network sees them now."""
        with in_eval(self.net.body):
            seen = [
                (self.net.body(one.x), one.y, self._far(one.domain)) for one in data.scan("train")
            ]
        parts = [torch.cat(part) for part in zip(*seen, strict=True)] or [torch.empty(0)] * 3
        self._remember(parts[0], parts[1], parts[2], 0.0)

    def groups(self) -> list[Group]:
        """Train all but the head, which is written."""
        own, made = (self.net.body, self.outliers, self.sides), self.features
        learn = [Group(one, self.lr) for one in (*own, made.makers, made.judges)]
        return [*learn, Group(self.net.head, 0.0)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Move body and networks, then judges, then generators; write prototypes into the head."""
        rows, made = batch.labeled, self.features
        done = descend(partial(self.episode, batch), self.net.body, self.outliers, self.sides)
        assert done.features is not None
        seen, logits = done.features.detach(), done.logits.detach()

        def asked(name: str, loss: Tensor) -> Objective:
            return Objective({name: loss}, logits)

        judged = descend(lambda: asked("judged", made.judged(seen, rows.y)), made.judges)
        fooled = descend(lambda: asked("made", made.fooled(rows.y)), made.makers)
        self._remember(seen, rows.y, self._far(rows.domain), self.momentum)
        return Objective(done.terms | judged.terms | fooled.terms, done.logits, done.features)

    def objective(self, batch: Batch) -> Objective:
        """Ask for all that `step` goes down in turn."""
        asked, y = self.episode(batch), batch.labeled.y
        assert asked.features is not None
        judged = self.features.judged(asked.features.detach(), y)
        terms = {"judged": judged, "made": self.features.fooled(y)}
        return Objective(asked.terms | terms, asked.logits, asked.features)

    def episode(self, batch: Batch) -> Objective:
        """Ask for classes of queries, for outliers, domains, and prototypes that agree."""
        some, features = batch.labeled, self.net.body(batch.labeled.x)
        rows, y, target = join(features), gather(some.y), gather(self._far(some.domain))
        shots, logits = (self.shots, 1), self.net.head(features.detach())
        found = draw_episode(y, target, classes=self.task.classes, ways=self.ways, shots=shots)
        if not len(found.classes):
            return Objective({"task": 0 * features.sum()}, logits, features)
        ours, theirs = (ask(rows, y, self.features(y), found, side) for side in (~target, target))
        networks, scale = (self.outliers, self.sides), self.scale
        terms = asked_terms(ours, theirs, *networks, ways=self.ways, scale=scale)
        for name in ("outlier", "domain", "align"):
            terms[name] = getattr(self, name) * terms[name]
        return Objective(terms, logits, features)

    def _far(self, domain: Tensor) -> Tensor:
        return domain == self.task.domains - 1

    @torch.no_grad()
    def _remember(self, features: Tensor, y: Tensor, far: Tensor, keep: float) -> None:
        """Let the head's prototypes follow rows of the target, where it is ``far``."""
        seen, y, far = map(gather, (features.float(), y, far))
        self.prototypes.copy_(follow(self.prototypes, seen[far], y[far], keep))
        share = self.scale / self.net.width
        bias = -share * self.prototypes.square().sum(1)
        self.net.head.take_raw(2 * share * self.prototypes, bias)
