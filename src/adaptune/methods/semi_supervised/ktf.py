"""Knowledge that is transferred from another space of features, even from noise."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.layers.common_space import CommonSpace
from adaptune.networks.network import Network
from adaptune.ops.discrepancy import class_distance
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective, Rate

DEVIATION = 0.01
"""Of what projector and head begin as."""


class KTF(Method):
    """Learn a few labelled images with clusters of noise, one a class, as the source.

    DATA holds the few labelled images of the target, ``--target`` the others. Source features have
    a width of their own, ``units``; a projector brings those of the frozen network there, and one
    head reads both. The loss is the cross-entropy on the labelled images, ``beta`` times that on
    the source, ``mu`` times the distance of both domains' means and of each class's, squared, over
    one more than the classes, where an unlabelled image counts for each class as is predicted, and
    ``decay / 2`` times the squared weights. Source: Noise May Contain Transferable Knowledge (Yao
    et al., 2025).

    As in the released code source features are not projected and all features have length 1. There
    is no source to give: as the paper finds that little of it but being told apart and near
    transfers, it is noise, ``each`` points a class around a mean of its own, both from a normal
    distribution, drawn once. (The stored noise has one mean for several classes.) The code descends
    on all images at once, by Adam at 0.001; here it is on batches, which rates, means and
    predictions are of, by the loop's optimiser. Source features of a second network are not here.

    Batch norms are the frozen body's: they normalise by running statistics, which stay.

    Args:
        lr: The rate of projector and head.
        beta: How much the labels of the source count.
        mu: How much the distance of the domains counts: 1 or 0.1 in the paper.
        decay: How strongly projector and head are pulled to zero.
        units: The width of source features.
        each: Points of noise a class.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "semi-supervised"
    task: Classification
    net: Network[Readout]
    noise: Tensor

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.1,
        beta: Annotated[float, Between(0.01, 1.0)] = 0.1,
        mu: Annotated[float, Between(0.01, 10.0)] = 1.0,
        decay: float = 0.05,
        units: int = 256,
        each: int = 100,
    ) -> None:
        net.operate("common-space", units=units)
        super().__init__(net, task, batchnorm="eval")
        if not 0 <= min(beta, mu, decay) <= max(beta, mu, decay) < float("inf") or each < 1:
            raise ValueError(
                f"beta, mu and decay are numbers from 0 up, each one from 1: got {beta}, {mu}, "
                f"{decay} and {each}"
            )
        self.lr, self.beta, self.mu = lr, beta, mu
        self.decay, self.units, self.each = decay, units, each
        self.space.body.requires_grad_(False)
        for one in self.learnt:
            nn.init.trunc_normal_(one.weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
            nn.init.trunc_normal_(one.bias, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
        self.register_buffer("noise", class_noise(task.classes, each, units))

    @property
    def space(self) -> CommonSpace:
        """The frozen body with the projector."""
        assert isinstance(self.net.body, CommonSpace)
        return self.net.body

    @property
    def learnt(self) -> list[nn.Linear]:
        """The projector and the head."""
        return [self.space.projector, self.net.head]

    def groups(self) -> list[Group]:
        """Train projector and head."""
        return [Group(one, self.lr) for one in self.learnt]

    def objective(self, batch: Batch) -> Objective:
        """Ask for both domains' labels, and for one place for each class."""
        count, classes = len(batch.labeled), self.task.classes
        features = self.net.body(torch.cat([batch.labeled.x, batch.unlabeled.x]))
        logits = self.net.head(features)
        own = torch.arange(classes, device=features.device).repeat_interleave(self.each)
        known = F.one_hot(batch.labeled.y, classes).to(logits)
        shares = torch.cat([known, logits[count:].softmax(1)])
        weights = sum(
            (one.weight.square().sum() for one in self.learnt), start=logits.new_zeros(())
        )
        apart = class_distance(self.noise, own, join(features), join(shares))
        terms = {
            "task": self.task.loss(logits[:count], batch.labeled.y),
            "source": self.beta * F.cross_entropy(self.net.head(self.noise), own),
            "distance": self.mu * apart,
            "decay": self.decay / 2 * weights,
        }
        return Objective(terms, logits[:count], features)


def class_noise(classes: int, each: int, width: int) -> Tensor:
    """Draw points of length 1 around a mean for each class, (classes * each, width), in order."""
    means = torch.randn(classes, 1, width)
    return F.normalize((means + torch.randn(classes, each, width)).flatten(0, 1), dim=1)
