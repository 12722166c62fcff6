"""Fine-tuning that keeps what texts meant before."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.networks.joint import Words
from adaptune.networks.network import Network
from adaptune.runtime.processes import gather, join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Between, Group, Needs, Objective


class ZSCL(Method):
    """Fine-tune body and tower, while reference images keep their likeness to texts; average.

    To the cross-entropy of labels come two distillations on unlabelled images: which text an image
    is like, and which image a text is like, by the network as it began, and the squared distance of
    all weights from where they began. What is kept is the mean of the beginning and of the weights
    after every ``every`` steps. Source: Preventing Zero-Shot Transfer Degradation in Continual
    Learning of Vision-Language Models (Zheng et al., 2023).

    Reference images are the target's, ``--target``, any images that look like what is not to be
    forgotten; reference texts are those of the classes, where the paper takes another data set's
    captions. Texts are those of the beginning in both distillations, as in released code. The paper
    takes a snapshot every 100 of 1000 steps. Batch norms keep to their running statistics.

    Args:
        lr: The rate of everything. The paper's, of AdamW, is 1e-5 with CLIP.
        distill: How much the distillations count.
        pull: How strongly weights are pulled to where they began.
        warmth: The temperature of the distillations.
        smooth: How much labels are smoothed.
        every: After how many steps weights join the mean.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    net: Network[Words]
    taken: Tensor

    def __init__(
        self,
        net: Network[Words],
        task: Classification,
        *,
        lr: Annotated[float, Between(1e-4, 0.1)] = 0.003,
        distill: Annotated[float, Between(0.1, 10.0)] = 1.0,
        pull: float = 1.0,
        warmth: float = 2.0,
        smooth: float = 0.2,
        every: int = 10,
    ) -> None:
        super().__init__(net, task, batchnorm="eval")
        if min(distill, pull) < 0 or warmth <= 0 or not 0 <= smooth < 1 or every < 1:
            raise ValueError(
                "distill and pull are weights from 0 up, warmth and every above 0, smooth a share "
                f"below 1: got {distill}, {pull}, {warmth}, {every} and {smooth}"
            )
        self.lr, self.distill, self.pull = lr, distill, pull
        self.warmth, self.smooth, self.every = warmth, smooth, every
        self.learner, self.begun = deepcopy(net), deepcopy(net).requires_grad_(False)
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def groups(self) -> list[Group]:
        """Train the copy that learns."""
        return [Group(self.learner, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels, for old likenesses, and for weights near the beginning."""
        logits = self.learner(batch.labeled.x)
        x, joint = batch.unlabeled.x, self.begun.head.joint
        with torch.no_grad():
            texts = self.begun.head.read()
            was = gather(joint(self.begun.body(x)) @ texts.T)
        own = self.learner.head.joint.embed(self.learner.body(x))
        now = join(joint.warmth * own @ texts.T)  # softmaxes over images are over all processes'
        both = distilled(now, was, self.warmth), distilled(now.T, was.T, self.warmth)
        pairs = zip(self.learner.parameters(), self.begun.parameters(), strict=True)
        apart = torch.stack([(own - one).square().sum() for own, one in pairs]).sum()
        terms = {
            "task": F.cross_entropy(logits, batch.labeled.y, label_smoothing=self.smooth),
            "images": self.distill * both[0],
            "texts": self.distill * both[1],
            "start": self.pull * apart,
        }
        return Objective(terms, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend; every so often let the weights join the mean."""
        done = super().step(batch, descend)
        self.taken += 1
        if int(self.taken) % self.every == 0:
            self.join()
        return done

    @torch.no_grad()
    def join(self) -> None:
        """Let the weights count in the mean as every one before."""
        count = int(self.taken) // self.every
        for mean, own in zip(self.net.parameters(), self.learner.parameters(), strict=True):
            mean.lerp_(own, 1 / (count + 1))
        self.net.head.renew()


def distilled(logits: Tensor, wanted: Tensor, warmth: float) -> Tensor:
    """Give the cross-entropy of softmaxes at a temperature, times its square, the mean over rows.

    >>> distilled(torch.zeros(1, 2), torch.zeros(1, 2), 2.0)  # 4 ln 2
    tensor(2.7726)
    """
    target = (wanted / warmth).softmax(1)
    return warmth**2 * F.cross_entropy(logits / warmth, target)
