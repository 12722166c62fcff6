"""Distilling experts of domains at test time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import torch

from adaptune.engine.method import Descend, Method
from adaptune.networks.expert_copies import take_experts
from adaptune.networks.layers.experts import Experts
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective, Rate, Unlabeled


class MetaDMoE(Method):
    """Learn a student that one step towards its experts' features makes right on a new domain.

    Experts are runs, one a domain, in the domains' order: ``--teacher A B C``. What they say of an
    image, but for the expert of its own domain, is aggregated by a layer of a transformer. An
    episode is the images of one domain in a batch: the body takes one step of gradient descent down
    the mean squared distance of features from the aggregate's on a share of them, the support, and
    the loss is that of the labels on the others, after the step. It goes through the step to
    student and aggregator. Source: Meta-DMoE: Adapting to Domain Shift by Meta-Distillation from
    Mixture-of-Experts (Zhong et al., 2022).

    A finished run holds the experts, so `adaptune stream RUN DIR --method meta-dmoe` needs nothing
    else: each batch is an episode, answered one step from what was learnt, by all experts, and
    nothing stays of the step. Scores of training are those of the student as it is.

    Batch norms normalise by running statistics, which stay, in training, as in the released code;
    those of experts are theirs.

    Ours: experts have the network's architecture and preprocessing; a batch holds an episode of
    each domain, not of one; the aggregator is not trained before, but begins as the mean of the
    experts, with fewer heads where 16 do not divide the width. The released code adapts once a
    domain, where a stream knows no domains. Rates of the code are Adam's, whose ratio stays.

    Args:
        lr: The rate of the student.
        inner: The rate of the step towards the experts; a stream takes that of the run.
        aggregator: How many times the student's rate the aggregator's is.
        support: The share of a domain's images that the step is taken on.
        heads: Of the aggregator's attention.
    """

    needs: ClassVar[Needs] = Needs(domains=2)
    setting: ClassVar[str] = "generalisation"
    streams: ClassVar[bool] = True
    task: Classification

    def __init__(
        self,
        net: Network,
        task: Classification,
        teachers: Sequence[Reference] = (),
        *,
        lr: Rate = 0.003,
        inner: Annotated[float, Between(1e-4, 1.0)] = 0.001,
        aggregator: float = 0.01,
        support: float = 0.25,
        heads: int = 16,
    ) -> None:
        if not (0 <= inner < float("inf") and 0 < support < 1):
            raise ValueError(f"inner is from 0 up, support in 0 to 1: got {inner} and {support}")
        begins = not isinstance(net.body, Experts)
        if begins and not teachers:
            raise ValueError(
                "this network has no experts: stream a run that `fit --method meta-dmoe --teacher "
                "A B` left"
            )
        if teachers and len(teachers) != task.domains:
            raise ValueError(
                f"experts are one a domain: give as many --teacher as domains, in their order, "
                f"{task.domains} and not {len(teachers)}"
            )
        if begins:
            net.operate("experts", count=len(teachers), heads=heads)
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.inner = lr, inner
        self.aggregator, self.support, self.heads = aggregator, support, heads
        if teachers:
            take_experts(self.both, net, [one.net for one in teachers])
            self.both.inner.fill_(inner)

    @property
    def both(self) -> Experts:
        """The student's body with the experts."""
        assert isinstance(self.net.body, Experts)
        return self.net.body

    def groups(self) -> list[Group]:
        """Train student and aggregator, at rates of their own."""
        slow = Group(self.both.aggregator, self.aggregator * self.lr)
        return [Group(self.both.body, self.lr), Group(self.net.head, self.lr), slow]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Learn of episodes; without labels answer as one of its own, and move nothing."""
        if len(batch.labeled):
            return descend(partial(self.objective, batch))
        return self.answer(batch.unlabeled)

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of each domain's query, after a step on its support."""
        rows = batch.labeled
        if not len(rows):
            return self.answer(batch.unlabeled)
        losses, logits = [], []
        for domain in range(self.task.domains):
            own = (rows.domain == domain).nonzero().flatten()
            if len(own) < 2:
                raise ValueError(
                    f"an episode takes two images of a domain, and a batch, or a part of it, has "
                    f"{len(own)} of domain {domain}: give a larger --batch-size, and --accumulate 1"
                )
            split = min(max(1, round(self.support * len(own))), len(own) - 1)
            moved, _ = self.both.stepped(rows.x[own[:split]], domain)
            logits.append(self.net.head(self.both.features(moved, rows.x[own[split:]])))
            losses.append(self.task.loss(logits[-1], rows.y[own[split:]]))
        return Objective({"query": torch.stack(losses).mean()}, torch.cat(logits))

    def answer(self, rows: Unlabeled) -> Objective:
        """Answer images one step from what was learnt, by all experts."""
        moved, apart = self.both.stepped(rows.x)
        logits = self.net.head(self.both.features(moved, rows.x))
        return Objective({"apart": apart}, logits)
