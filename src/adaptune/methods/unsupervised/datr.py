"""Distortion-aware adaptation to panoramas."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.class_features import blended_centres, centre_cosines, labels_on_grid
from adaptune.ops.pseudo_labels import class_thresholds, sure_labels
from adaptune.runtime.processes import add_up, join
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Needs, Objective, Rate


class DATR(Method):
    """Look at the neighbours only, and gather each class's features at centres of both domains.

    Behind the last stage each place attends to the ``kernel`` x ``kernel`` places around it, since
    panoramas distort what is near less than what is far. Beside the labels of the source those that
    the network is sure of on the target are learnt: of each class the surer half, and whatever is
    0.9 sure. Each domain has a centre of each class, the mean of its features blended with what was
    there by ``1 / (e + 1)``, e being the epoch; the cosines of places with their centres are to be
    the same in both domains, place by place. Source: Look at the Neighbor: Distortion-aware
    Unsupervised Domain Adaptation for Panoramic Semantic Segmentation (Zheng et al., 2023).

    In train mode what batch norms normalise by is said by ``passes``, and running statistics follow
    the target alone, or both domains in other ways. Labels of the target are given in eval mode by
    the network as it was before the epoch, so by these statistics: those of both domains suit
    neither, and from one map to another such labels were worse after an epoch than before. The
    paper's networks have no batch norms there. The first ``supervised`` epochs learn from the
    source alone, though batch norms see both; 0 is for a network that knows it (``--from``).

    Terms are those of the released code, whose networks are SegFormers: there the blocks of the
    last stage attend so, here one more block does, which begins without effect, as a network may
    be of convolutions. Networks without stages get it behind their features. There a bank holds
    the last image's centres place by place, here by class, as the paper's words have it. Labels are
    given anew each epoch, of one scale; there once, of six. Places where either domain has no
    class do not count. Features are those that the head reads, of all stages; there of the last.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How both domains go through batch norms: joint, separate or apart.
        kernel: The side of the window that a place sees; 0 leaves attention out.
        supervised: How many epochs learn from the source alone.
        aggregation: How much centres count.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    task: Segmentation
    banks: Tensor
    least: Tensor
    epoch: Tensor

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Rate = 0.01,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "apart",
        kernel: int = 13,
        supervised: int = 1,
        aggregation: float = 1.0,
    ) -> None:
        if kernel:
            net.operate("neighbourhood-attention", kernel=kernel)
        super().__init__(net, task, batchnorm=batchnorm)
        self.lr, self.batchnorm, self.passes, self.kernel = lr, batchnorm, passes, kernel
        self.supervised, self.aggregation = supervised, aggregation
        self.both = DomainPasses(net.body, passes)
        self.labeller = deepcopy(net).requires_grad_(False)
        self.register_buffer("banks", torch.zeros(2, task.classes, net.width))
        self.register_buffer("least", torch.ones(task.classes))
        self.register_buffer("epoch", torch.tensor(-supervised))

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; both domains begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        return notes

    def refresh(self, data: Domains) -> None:
        """Count the epoch; from now on the network as it is labels the target."""
        self.epoch += 1
        if int(self.epoch) > 0:
            self.labeller.load_state_dict(self.net.state_dict())
            class_thresholds(self.labeller, data.unlabeled(), self.least)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Learn once, and keep the centres."""
        centres: list[Tensor] = []
        done = descend(lambda: self.learn(batch, centres))
        self.banks.copy_(torch.stack(centres[-2:]).detach())
        return done

    def objective(self, batch: Batch) -> Objective:
        """Ask for labels of both domains, and for features alike around their centres."""
        return self.learn(batch, [])

    def learn(self, batch: Batch, centres: list[Tensor]) -> Objective:
        """Give the objective, and put both domains' centres behind ``centres``."""
        source, target = batch.labeled, batch.unlabeled
        sides = self.both(self.net.body, source.x, target.x)
        logits, theirs = map(self.net.head, sides)
        with torch.no_grad():
            said = sure_labels(self.labeller.eval()(target.x), self.least)
        labels = labels_on_grid(source.y, said.shape[1:]), said
        share, cosines = 1 / (self.epoch.clamp_min(1) + 1), []
        for features, y, bank in zip(sides, labels, self.banks, strict=True):
            centres.append(blended_centres(features, y, bank, share))
            cosines.append(centre_cosines(features, y, centres[-1]))
        adapts = (self.epoch > 0).to(logits.dtype)
        count = min(map(len, sides))
        known = [y[:count] < self.task.classes for y in labels]
        both = known[0] & known[1]
        apart = (both * (cosines[0][:count] - cosines[1][:count]).square()).flatten(1).sum(1)
        places = add_up(both.sum()).clamp_min(1)
        terms = {
            "task": self.task.loss(logits, source.y),
            "pseudo": adapts * self.task.loss(theirs, said),
            "aggregation": adapts * self.aggregation * join(apart).sum() / places,
        }
        return Objective(terms, logits)
