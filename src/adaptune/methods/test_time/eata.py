"""Efficient test-time adaptation that forgets little."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.batchnorm.layers import mixed_statistics, train_batchnorm_only
from adaptune.engine.method import Descend, Method
from adaptune.engine.optimizers import trainable
from adaptune.networks.network import Network
from adaptune.ops.information import entropy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class EATA(Method):
    """Make reliable predictions certain that say something new, and hold what matters.

    Of a batch count images whose entropy is below E, ``reliable`` of ln K, and whose prediction is
    not like the running average of those that counted, by the cosine. Their entropies, weighed
    exp(E - entropy), go down on average, and ``hold`` times the squared ways of weights from where
    the stream began, each weighed by the Fisher information. Weights and biases of batch norms
    alone move; batch norms normalise by the batch at hand, and running statistics stay. Source:
    Efficient Test-Time Model Adaptation without Forgetting (Niu et al., 2022).

    The paper measures the Fisher information on ``samples`` images like the source's, with the
    network's own answers for labels. A stream has none of the source: without `measure`, which
    takes such images beforehand, its first images stand for them. The squared gradient of one image
    is estimated without bias: losses of a batch are added with signs at random, in one pass. The
    paper's bound of the cosine is 0.05 of 1000 classes and 0.4 of 10, so it is told here in units
    of the cosine between a certain prediction and an even average, 1 / sqrt K. Where no image
    counts, momentum and ``hold`` move alone; the paper takes no step.

    Args:
        lr: The rate of batch norms, the paper's for ImageNet; on smaller images it takes 0.005.
        reliable: The largest entropy that counts, as a share of ln K.
        apart: The largest cosine that counts, times sqrt K.
        hold: How much weights are held; the paper takes 2000 on ImageNet and 1 on CIFAR.
        samples: On how many images the Fisher information is measured.
    """

    needs: ClassVar[Needs] = Needs(labeled=False, unlabeled=True)
    setting: ClassVar[str] = "test-time"
    average: Tensor
    start: Tensor
    fisher: Tensor
    measured: Tensor

    def __init__(
        self,
        net: Network,
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-5, 1e-1)] = 0.00025,
        reliable: Annotated[float, Between(0.1, 1.0)] = 0.4,
        apart: Annotated[float, Between(0.5, 5.0)] = 1.4,
        hold: Annotated[float, Between(0.1, 1e4)] = 2000.0,
        samples: int = 2000,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.reliable, self.apart = lr, reliable, apart
        self.hold, self.samples = hold, samples
        train_batchnorm_only(net)
        start = torch.cat([one.detach().flatten() for one in trainable(net)])
        self.register_buffer("start", start.clone())
        self.register_buffer("fisher", torch.zeros_like(start))
        self.register_buffer("average", start.new_zeros(len(net.head.weight)))
        self.register_buffer("measured", torch.zeros((), dtype=torch.int64))

    def groups(self) -> list[Group]:
        """Train what is not frozen: batch norms."""
        return [Group(self.net, self.lr)]

    def forward(self, x: Tensor) -> Tensor:
        """Predict by the batch's statistics."""
        with mixed_statistics(0.0):
            return self.net(x)  # type: ignore[no-any-return]

    def counted(self, logits: Tensor) -> Tensor:
        """Say which predictions (N, K) are reliable and not redundant."""
        classes = logits.shape[1]
        sure = entropy(logits) < self.reliable * math.log(classes)
        like = F.cosine_similarity(logits.softmax(1), self.average[None])
        return sure & (like.abs() < self.apart / math.sqrt(classes))

    def objective(self, batch: Batch) -> Objective:
        """Ask for certain predictions of images that count, and for weights that stay."""
        logits = self(batch.unlabeled.x)
        counted, doubts = self.counted(logits.detach()), entropy(logits)
        weights = (self.reliable * math.log(logits.shape[1]) - doubts.detach()).exp() * counted
        way = torch.cat([one.flatten() for one in trainable(self.net)]) - self.start
        terms = {
            "entropy": (weights * doubts).sum() / counted.sum().clamp_min(1),
            "hold": self.hold * (self.fisher * way.square()).sum(),
        }
        return Objective(terms, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Measure if there is to be measured, descend, and remember what counted."""
        if self.measured < self.samples:
            self.measure(batch.unlabeled.x)
        done = super().step(batch, descend)
        logits = done.logits.detach()
        counted = self.counted(logits)
        if counted.any():
            new = logits[counted].softmax(1).mean(0)
            self.average.lerp_(new, 0.1 if self.average.any() else 1.0)
        return done

    @torch.enable_grad()
    def measure(self, x: Tensor) -> None:
        """Take images into the Fisher information, by the network as it is."""
        logits = self(x)
        losses = F.cross_entropy(logits, logits.argmax(1), reduction="none")
        signs = 2.0 * torch.randint(2, losses.shape, device=x.device) - 1
        found = torch.autograd.grad((signs * losses).sum(), list(trainable(self.net)))
        square = torch.cat([one.flatten() for one in found]).square()
        self.measured += len(x)
        self.fisher.lerp_(square / len(x), float(len(x) / self.measured))
