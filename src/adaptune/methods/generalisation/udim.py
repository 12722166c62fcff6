"""Minimising inconsistency with domains that are not known."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from adaptune.engine.method import Descend, Method
from adaptune.engine.rules import Sharp, uncounted
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.ops.head_gradients import gradient_inconsistency
from adaptune.runtime.processes import join
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, BatchNormPolicy, Between, Group, Needs, Objective, Rate


class UDIM(Method):
    """Find flat minima, and make the head's gradients on perturbed images vary as on the images.

    Images are moved by ``eta`` to where the loss is high and steep: along the gradient of
    ``loss + rho |g|`` in each image, g being the gradient in the weights. The step is that of SAM,
    plus ``weight`` times the gradient, where the weights are, of the inconsistency: how much the
    variances of the head's gradients differ, example by example, between images and moved images,
    and how large they are on the moved ones (`gradient_inconsistency`, in closed form). The first
    ``warm`` of the run is SAM alone. A step costs about seven passes of fine-tuning, one of them
    through the gradient itself. Source: Unknown Domain Inconsistency Minimization for Domain
    Generalization (Shin et al., 2024).

    The released code normalises an image's gradient over the batch, so that each pixel's length
    over all images is 1; here each image's is ``eta`` long, as the paper has it. That code's script
    moves the style of images instead, which is not here. Its rate is Adam's, ours that of SAM. Of
    several processes each moves its images by the gradient of its own rows.

    Batch norms are in train mode, as in fine-tuning: images and moved images are normalised
    together where they are compared. Running statistics follow the first pass on the images alone.

    Args:
        lr: The rate of everything.
        rho: How far to climb.
        eta: How far images are moved, a length in the units of normalised pixels.
        weight: How much the inconsistency counts.
        warm: The share of the run that is SAM alone.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
    """

    needs: ClassVar[Needs] = Needs(pixels=True)
    setting: ClassVar[str] = "generalisation"
    task: Classification
    net: Network[Readout]

    def __init__(
        self,
        net: Network[Readout],
        task: Classification,
        *,
        lr: Rate = 0.03,
        rho: Annotated[float, Between(0.01, 0.5)] = 0.05,
        eta: Annotated[float, Between(0.1, 100.0)] = 10.0,
        weight: Annotated[float, Between(0.01, 10.0)] = 1.0,
        warm: float = 0.2,
        batchnorm: BatchNormPolicy = "train",
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not (min(rho, eta, weight) >= 0 and max(rho, eta, weight) < float("inf")):
            raise ValueError(
                f"rho, eta and weight are numbers from 0 up: got {rho}, {eta} and {weight}"
            )
        if not 0 <= warm <= 1:
            raise ValueError(f"warm is a share of the run, from 0 to 1: got {warm}")
        self.lr, self.rho, self.eta, self.weight = lr, rho, eta, weight
        self.warm, self.batchnorm = warm, batchnorm
        self.rule = Sharp(rho)

    def groups(self) -> list[Group]:
        """Train everything at one rate."""
        return [Group(self.net, self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)

    def step(self, batch: Batch, descend: Descend) -> Objective:
        """Climb and descend, beside what makes gradients alike where the weights are."""
        joins = self.weight > 0 and batch.progress >= self.warm
        beside = partial(self.inconsistency, batch) if joins else None
        self.rule = Sharp(self.rho, beside=beside)
        return descend(partial(self.objective, batch))

    def inconsistency(self, batch: Batch) -> Objective:
        """Compare the head's gradients on the images and on the moved ones."""
        x, y = batch.labeled.x, batch.labeled.y
        features = self.net.body(torch.cat([x, self.moved(x, y)]))
        logits = self.net.head(features)
        rows = [join(part) for whole in (features, logits) for part in whole.split(len(x))]
        own, near, said, told = rows
        term = gradient_inconsistency(own, said, join(y), near, told)
        return Objective({"inconsistency": self.weight * term}, logits[: len(x)])

    @torch.enable_grad()
    def moved(self, x: Tensor, y: Tensor) -> Tensor:
        """Give images (N, ...) moved to where the loss is high and steep, each by ``eta``."""
        x = x.detach().requires_grad_()
        params = [one for one in self.net.parameters() if one.requires_grad]
        with uncounted(self.net):
            loss = self.task.loss(self.net(x), y)
        slopes = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True)
        steep = torch.stack([one.norm() for one in slopes if one is not None]).norm()
        [way] = torch.autograd.grad(loss + self.rho * steep, [x])
        lengths = way.flatten(1).norm(dim=1).clamp_min(torch.finfo(way.dtype).tiny)
        moved: Tensor = x + self.eta * way / lengths.view(-1, *[1] * (way.dim() - 1))
        return moved.detach()
