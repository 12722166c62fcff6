"""Self-training on mixed images, by a teacher that follows."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from adaptune.batchnorm.passes import DomainPasses, Passes
from adaptune.engine.method import Descend, Method
from adaptune.networks.network import Network
from adaptune.ops.mixing import class_halves, paste, row_draws
from adaptune.ops.places import on_grid
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Needs, Objective, Rate


class DACS(Method):
    """Train on the target with half of a source image's classes pasted in, labels by a teacher.

    Half of the classes of a source image, and their labels, are laid over an image of the target,
    whose other places have the labels that a teacher gives them. The loss of a mixed image counts
    as much as the share of the target image's places of which the teacher is at least ``sure``. The
    teacher is an average of the network: after step t it keeps min(1 - 1 / t, ``decay``) of itself.
    Source: DACS: Domain Adaptation via Cross-domain Mixed Sampling (Tranheden et al., 2021).

    In train mode batch norms normalise the source's images and the mixed ones as ``passes`` says:
    each by their own batch, both of which running statistics follow in turn (``separate``), or
    with those of the source kept apart (``apart``), or by what they have together (``joint``). The
    teacher normalises the target by its own batch, and has running statistics of its own. Nothing
    has seen the target alone that predicts: it is the mixed images that stand for it.

    The teacher and that halves are rounded up were taken from the released code. That weighs the
    places of the target alone, by the share of the whole batch; this is the paper's equation. Its
    changes of colour and its blur of mixed images are left out.

    Args:
        lr: The rate of everything.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        passes: How source and mixed images go through batch norms: joint, separate or apart.
        sure: From which probability on a place counts as sure.
        decay: How much of itself the teacher keeps in a step.
    """

    needs: ClassVar[Needs] = Needs(unlabeled=True)
    setting: ClassVar[str] = "unsupervised"
    steps: Tensor

    def __init__(
        self,
        net: Network,
        task: Segmentation,
        *,
        lr: Rate = 0.03,
        batchnorm: BatchNormPolicy = "train",
        passes: Passes = "separate",
        sure: float = 0.968,
        decay: Annotated[float, Between(0.9, 0.999)] = 0.99,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not 0 <= decay < 1:
            raise ValueError(f"a teacher keeps a share of itself from 0 to below 1: got {decay}")
        self.lr, self.batchnorm, self.passes = lr, batchnorm, passes
        self.sure, self.decay = sure, decay
        self.teacher = deepcopy(net).requires_grad_(False)
        self.both = DomainPasses(net.body, passes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; all begin with their statistics."""
        notes = super().prepare(data)
        self.both.start(self.net.body)
        self.teacher.load_state_dict(self.net.state_dict())
        return notes

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Give mixed images, their labels (N, H, W), and how much each counts, (N,)."""
        source, x = batch.labeled, batch.unlabeled.x
        if source.x.shape[2:] != source.y.shape[1:]:
            raise ValueError(
                f"images of {tuple(source.x.shape[2:])} have masks of {tuple(source.y.shape[1:])}, "
                "and both are pasted by the same places: make them one size"
            )
        row = torch.arange(len(x), device=x.device) % len(source)
        with torch.no_grad():
            chances = on_grid(self.teacher(x), source.y.shape[1:]).softmax(1)
        sureness, labels = chances.max(1)
        draws = row_draws(source.index, self.net.head.weight.shape[0])
        where = class_halves(source.y, draws)[row]
        y = paste(source.y[row], labels.to(source.y.dtype), where)
        counts = (sureness >= self.sure).to(chances.dtype).mean((1, 2))
        return paste(source.x[row], x, where), y, counts

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels of the source, and for those of mixed images."""
        x, y, counts = self.mixed(batch)
        ours, theirs = self.both(self.net.body, batch.labeled.x, x)
        logits = self.net.head(ours)
        losses = counts * self.task.losses(self.net.head(theirs), y)
        terms = {"task": self.task.loss(logits, batch.labeled.y), "mixed": losses.mean()}
        return Objective(terms, logits, ours)

    @torch.no_grad()
    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Descend, then let the teacher follow."""
        with torch.enable_grad():
            done = super().step(batch, descend)
        self.steps += 1
        share = (1 / self.steps).clamp_min(1 - self.decay)  # not read: the device goes on
        for own, new in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
            own.lerp_(new, share.to(own))
        return done
