"""Learning from the learnt: a few labels that the method asks for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch

from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.banks import Collected, bank_size, collect, pick, scatter_rows
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.ops.labelled_pool import LabelledPool
from adaptune.ops.queries import QUERIES
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Domains, Group, Needs, Objective


class LFTL(Method):
    """Ask for the labels of a few target images, round by round, and learn from them and the rest.

    The network was trained on the source. In each of the first epochs a part of the labels is asked
    for, of images that are least sure, seen against the round before, and not of a class that the
    network is sure of. A step goes down the cross-entropy of labelled images, sure and diverse
    predictions of the others and their closeness to few labelled anchors, then down the labelled
    images mixed up. Batch norms train, on labelled and unlabelled images apart. Source: Learn from
    the Learnt (Lyu et al., 2024).

    The released code has ten or more epochs a round, augments labelled images, and mixes them after
    an epoch; here a round is an epoch, labelled images are kept as they are, also in checkpoints,
    and mixed in every step.

    Args:
        lr: The head's rate.
        body: How many times as fast as the head the body learns.
        batchnorm: What batch norms do: train or eval.
        ask: How many labels are asked for in all.
        rounds: The epochs that begin with questions.
        query: Whose labels are asked for: contrastive as above; margin and random are ablations.
        contrast: How far predictions are drawn on from those of the round before.
        common: How much less is asked for of classes that are common among the surest images.
        topk: How many of the surest images say which classes are common.
        certain: The weight of sure and diverse predictions.
        persist: The weight of closeness to anchors; the paper has 10 for VisDA.
        follow: The new feature's share where an anchor follows, as in the released code.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True, pixels=True)
    setting: ClassVar[str] = "source-free"
    task: Classification
    answers: LabelledPool

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.001,
        body: float = 0.1,
        batchnorm: Literal["train", "eval"] = "train",
        ask: int = 100,
        rounds: int = 10,
        query: Literal["contrastive", "margin", "random"] = "contrastive",
        contrast: float = 0.03,
        common: float = 0.1,
        topk: int = 500,
        certain: float = 0.9,
        persist: float = 1.0,
        follow: float = 0.9,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 1 <= rounds <= ask:
            raise ValueError(f"every round asks for a label: got {ask} labels in {rounds} rounds")
        self.lr, self.body, self.batchnorm, self.ask, self.rounds = lr, body, batchnorm, ask, rounds
        self.query, self.contrast, self.common, self.topk = query, contrast, common, topk
        self.certain, self.persist, self.follow = certain, persist, follow

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Make room for the answers, and for the predictions of the round before."""
        (places, shape), device = bank_size(data.unlabeled()), self.net.head.weight.device
        before, width = torch.zeros(places, self.task.classes), self.net.width
        self.answers = LabelledPool(min(self.ask, places), shape, before, width=width).to(device)
        return {}

    @torch.no_grad()
    def refresh(self, data: Domains) -> None:
        """Ask for labels if a round is left; let the anchors follow."""
        seen = collect(self.net.body, self.net.head, data.unlabeled())
        if self.answers.round < self.rounds and self.answers.free(seen.index).any():
            self._ask(data, seen)
        self.answers.follow_all_(scatter_rows(seen.index, seen.features), self.follow)

    def _ask(self, data: Domains, seen: Collected) -> None:
        answers, chances, free = self.answers, seen.logits.softmax(1), self.answers.free(seen.index)
        before = answers.previous[seen.index] if answers.round > 0 else chances
        due = -(-self.ask * (int(answers.round) + 1) // self.rounds) - int(answers.count)
        options = (self.contrast, self.common, self.topk)
        told = QUERIES[self.query](chances[free], before[free], *options)
        chosen = seen.index[free][told.argsort(stable=True)[:due]]
        if len(chosen):
            answers.add(chosen, data.query_labels(chosen), pick(data.unlabeled(), chosen))
        answers.end_round(scatter_rows(seen.index, chances, len(answers.previous)))

    def groups(self) -> list[Group]:
        """Train the head, and the body slowly."""
        return [Group(self.net.body, self.body * self.lr), Group(self.net.head, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, and for sure, diverse predictions near few anchors elsewhere."""
        labeled = batch.labeled if len(batch.labeled) else self.answers.some(len(batch.unlabeled))
        known, features = self.net.body(labeled.x), self.net.body(batch.unlabeled.x)
        logits = self.net.head(features)
        terms = {
            "task": self.task.loss(self.net.head(known), labeled.y),
            "certain": self.certain * entropy(logits).mean(),
            "diverse": -self.certain * marginal_entropy(join(logits)),
            "persist": self.persist * self.answers.doubt(features).mean(),
        }
        return Objective(terms, logits, known)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend with as many labelled images, let their anchors follow, then descend the mix."""
        places = self.answers.drawn(len(batch.unlabeled))
        known = self.answers.at(places)
        done = descend(partial(self.objective, replace(batch, labeled=known)))
        assert done.features is not None
        self.answers.follow_(places, done.features, self.follow)
        x, y = self.answers.mixed(places, self.task.classes)
        mixed = descend(lambda: Objective({"mixed": self.task.loss(self.net(x), y)}, y))
        return replace(done, terms=done.terms | mixed.terms)
