"""Distillation from several networks by how well each suits the labels."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.ops.similarity import parc
from adaptune.runtime.processes import gather
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate

MOST = 1000
"""Labelled rows that teachers are judged by, whose pairs are compared."""


class DistillWeighted(Method):
    """Learn a few labels, and what several networks say of many images, the fitting ones most.

    Each teacher has classes of its own, whatever they are, and the network a further head for them,
    which learns the teacher's predictions on the unlabelled images (``--target``). How much each
    counts is its PARC score on the labelled images (`ops.similarity`), 0 if below, to the power of
    ``power``, as a share of all: 0 makes all alike, and ``nearest`` takes the best alone, which is
    the paper's DistillNearest. Where no score is above 0 all count alike. Source: Distilling from
    Similar Tasks for Transfer Learning on a Budget (Borup, Phoo and Hariharan, 2023).

    The further heads are let go when the network is saved. The paper's code is not public; the
    defaults of ``power`` and ``supervised`` are ours. Labelled and unlabelled images are of one
    domain and go through batch norms in one pass.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        supervised: The share of the labels' loss; the rest is that of distillation.
        power: How much more a better score counts.
        nearest: Whether the teacher of the best score is learnt alone.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "semi-supervised"
    weights: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        teachers: tuple[Reference, ...],
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        supervised: Annotated[float, Between(0.1, 0.9)] = 0.5,
        power: Annotated[float, Between(1.0, 30.0)] = 10.0,
        nearest: bool = False,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.supervised = lr, batchnorm, supervised
        self.power, self.nearest = power, nearest
        self.known = nn.ModuleList(teachers)
        self.heads = nn.ModuleList(nn.Linear(net.width, len(one.classes)) for one in teachers)
        self.register_buffer("weights", torch.zeros(len(teachers), dtype=torch.float64))

    def groups(self) -> list[Group]:
        """Train everything at one rate, what is learnt of teachers too."""
        return [Group(self.net, self.lr), Group(self.heads, self.lr)]

    @torch.no_grad()
    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; judge the teachers by the labelled images."""
        notes = super().prepare(data)
        known = [cast(Reference, one) for one in self.known]
        seen: list[list[Tensor]] = []
        for rows in data.scan("train", shuffled=True):
            seen.append([rows.index, rows.y, *(one.features(rows.x) for one in known)])
            if sum(len(one[0]) for one in seen) >= MOST:
                break
        own = [torch.cat(part) for part in zip(*seen, strict=True)]
        own = own or [torch.empty(0)] * (2 + len(self.known))
        index, y, *features = map(gather, own)
        order = index.argsort()[:MOST]
        scores = [parc(one[order], y[order]) for one in features]
        self.weights.copy_(shares(torch.tensor(scores), self.power, nearest=self.nearest))
        return notes | {"similarity": scores, "weights": self.weights.tolist()}

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, and for what each teacher says of the unlabelled images."""
        x, more = batch.labeled.x, batch.unlabeled.x
        features = self.net.body(torch.cat([x, more]))
        ours, theirs = features[: len(x)], features[len(x) :]
        logits = self.net.head(ours)
        apart = [
            self.task.loss(head(theirs), one(more).softmax(1))
            for head, one in zip(self.heads, self.known, strict=True)
        ]
        weights = self.weights.to(logits)
        terms = {
            "task": self.supervised * self.task.loss(logits, batch.labeled.y),
            "distilled": (1 - self.supervised) * (weights * torch.stack(apart)).sum(),
        }
        return Objective(terms, logits, features)


def shares(scores: Tensor, power: float, *, nearest: bool = False) -> Tensor:
    """Give what share of all each of scores (T,) has to a power; the best alone if ``nearest``.

    >>> shares(torch.tensor([0.2, 0.4, -0.1]), 1.0)
    tensor([0.3333, 0.6667, 0.0000])
    """
    sound = scores.clamp_min(0)
    if not sound.any():
        return torch.full_like(sound, 1 / len(sound))
    if nearest:
        return torch.eye(len(sound), dtype=sound.dtype, device=sound.device)[sound.argmax()]
    raised = (sound / sound.max()) ** power
    return raised / raised.sum()
