"""Robustness of a teacher that is plugged into a network whose answers to clean images stay."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.inputs import need_images
from adaptune.networks.layers.branches import ChosenHeads, TwoBranches
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.ops.augmix import augmix
from adaptune.ops.information import entropy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Group, Needs, Objective, Rate


class PlugAndPlay(Method):
    """Tune a copy of the last stages for changed images, and answer by whichever head fits.

    A finished network (``--from RUN``) stays as it is, its clean head too. Beside its last stages
    comes a copy that is tuned, read by two further heads: the robust one learns from images changed
    by AugMix, the combined one from those and the images as they are. Both learn what a robust
    teacher (``--teacher RUN``, best trained on changed images) says of the same image, less where
    the teacher is unsure. For each image one of the three heads answers, by how unsure it is and
    how far the combined head is from it. Source: Efficiently Robustify Pre-trained Models (Jain et
    al., 2023).

    Known of the paper are frozen network, few tuned layers, two added heads, a loss weighed by
    uncertainty, and a choice by uncertainty and Kullback-Leibler divergence between heads; its
    equations were not at hand. Ours are therefore: uncertainty is the entropy of a prediction, as a
    share u of the largest, in place of several passes with dropout, which most networks lack; the
    loss of a row is (1 - u) KL(teacher || head) + u times that of its label; the head that answers
    has the least sum of entropy and KL(combined || head); the copy is of the last stage, in which a
    run of blocks at one resolution lies; AugMix as torchvision has it; the rate. A fresh clean head
    stays random, so start from a run.

    Batch norms normalise by running statistics, which stay; weights and biases of those in the copy
    learn.

    Args:
        lr: The rate of the copy and its heads.
        stages: How many of the last stages are copied and tuned.
        severity: How strongly AugMix changes images, from 1 to 10.
    """

    needs: ClassVar[Needs] = Needs(pixels=True)
    setting: ClassVar[str] = "teachers"
    net: Network[ChosenHeads]

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        teacher: Reference,
        *,
        lr: Rate = 0.01,
        stages: int = 1,
        severity: int = 3,
    ) -> None:
        if not 1 <= severity <= 10:
            raise ValueError(f"severity is from 1 to 10: got {severity}")
        net.operate("two-branches", stages=stages)
        super().__init__(net, task, batchnorm="eval")
        self.lr, self.stages, self.severity = lr, stages, severity
        self.teacher = teacher.matched(net.classes)

    def groups(self) -> list[Group]:
        """Train the copy and its heads at one rate."""
        assert isinstance(self.net.body, TwoBranches)
        heads = self.net.head
        return [Group(one, self.lr) for one in (self.net.body.tuned, heads.robust, heads.combined)]

    def objective(self, batch: Batch) -> Objective:
        """Ask the robust head for changed images, the combined one for all."""
        rows, look = batch.labeled, need_images(self.net.preprocess)
        both = torch.cat([rows.x, augmix(rows.x, look.mean, look.std, self.severity)])
        _, robust, combined = self.net.head.each(self.net.body(both)).unbind(1)
        taught, y = self.teacher(both), rows.y.repeat(2)
        count = len(rows)
        terms = {
            "robust": self.lesson(robust[count:], taught[count:], rows.y),
            "combined": self.lesson(combined, taught, y),
        }
        return Objective(terms, combined[:count])

    def lesson(self, logits: Tensor, taught: Tensor, y: Tensor) -> Tensor:
        """Ask logits (N, K) for the teacher's, and for labels (N,) where the teacher is unsure."""
        unsure = entropy(taught) / math.log(taught.shape[1])
        learnt, target = logits.log_softmax(1), taught.log_softmax(1)
        apart = F.kl_div(learnt, target, reduction="none", log_target=True).sum(1)
        return ((1 - unsure) * apart + unsure * self.task.losses(logits, y)).mean()
