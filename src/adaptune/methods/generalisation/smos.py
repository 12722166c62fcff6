"""Learning that is grounded in a precursor."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.method import Method
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_ends
from adaptune.ops.information import js_divergence
from adaptune.ops.inner import tapped
from adaptune.runtime.inputs import in_eval
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Between, Domains, Group, Objective, Rate

FLOOR = 1e-5
"""What variances stay above."""


class SMOS(Method):
    """Learn the labels with inner layers and features that stay near those of a precursor.

    The precursor is a frozen copy of the body as the run begins. At the end of each stage comes the
    likelihood of its features under a normal distribution around the network's, with a variance for
    each channel that is learnt: ``weight / new`` times the sum over stages of the mean of ``((f -
    f0) ^ 2 / v + log v) / 2``. Of the features that the head reads it is ``weight`` times the
    Jensen-Shannon divergence of both softmaxes. Source: Grounding Stylistic Domain Generalization
    with Quantitative Domain Shift Measures and Synthetic Scene Images (Luo et al., 2024).

    The paper's precursor is trained on scenes of Super Mario games, and the network begins at
    ImageNet's weights; here both begin as the network is given, so ``--from`` a run on other
    images makes that the precursor. The released code measures the divergence on raw features,
    where it is not 0 of equal ones and not a number of negative ones: here it is that of softmaxes,
    as the paper means. It looks at the outputs of a ResNet's stages; here they are those of
    the last convolution, batch norm or linear layer of a stage in any network.

    Batch norms normalise by running statistics, which stay, in the network and in the precursor, as
    in the released code. By another policy the network's normalise by the batch, the precursor's
    never; conversion comes before the copy.

    Args:
        lr: The rate of the network; ours, ten times it is too much for frozen batch norms.
        batchnorm: What batch norms do: train, eval or converted (DAFT's conversion, then train).
        weight: How much the precursor counts.
        new: How many times as fast the variances learn.
        variance: What variances begin as.
    """

    setting: ClassVar[str] = "generalisation"
    task: Labelling

    def __init__(
        self,
        net: Network,
        task: Labelling,
        *,
        lr: Rate = 0.003,
        batchnorm: BatchNormPolicy = "eval",
        weight: Annotated[float, Between(0.01, 1.0)] = 0.15,
        new: float = 10.0,
        variance: float = 0.1,
    ) -> None:
        super().__init__(net, task, batchnorm=batchnorm)
        if not (0 <= weight < float("inf") and new > 0 and variance > FLOOR):
            raise ValueError(
                f"weight is a number from 0 up, new above 0 and variance above {FLOOR}: got "
                f"{weight}, {new} and {variance}"
            )
        self.lr, self.batchnorm, self.weight = lr, batchnorm, weight
        self.new, self.variance = new, variance
        self.layers = stage_ends(net.body)
        begun = torch.tensor(variance - FLOOR).expm1().log()
        self.spread = nn.ParameterList(begun.repeat(width) for _, width, _ in self.layers)
        self.precursor = deepcopy(net.body).requires_grad_(False)

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Convert batch norms if the policy says so; copy the body."""
        notes = super().prepare(data)
        self.precursor.load_state_dict(self.net.body.state_dict())
        return notes

    def groups(self) -> list[Group]:
        """Train the network, and the variances faster."""
        return [Group(self.net, self.lr), Group(self.spread, self.new * self.lr)]

    def objective(self, batch: Batch) -> Objective:
        """Ask for the labels, near the precursor."""
        x, names = batch.labeled.x, [name for name, _, _ in self.layers]
        with tapped(self.net.body, names) as inner:
            features = self.net.body(x)
        with torch.no_grad(), in_eval(self.precursor), tapped(self.precursor, names) as before:
            was = self.precursor(x)
        near = features.new_zeros(())
        for (name, _, axis), spread in zip(self.layers, self.spread, strict=True):
            near = near + likelihood(inner[name], before[name], spread, axis)
        logits = self.net.head(features)
        terms = {
            "task": self.task.loss(logits, batch.labeled.y),
            "stages": self.weight / self.new * near,
            "features": self.weight * js_divergence(features, was).mean(),
        }
        return Objective(terms, logits, features)


def likelihood(features: Tensor, before: Tensor, spread: Tensor, axis: int) -> Tensor:
    """Give the mean of ``((f - f0) ^ 2 / v + log v) / 2``, v being one a channel, on ``axis``.

    ``v`` is the softplus of ``spread`` (C,), and a little.

    >>> likelihood(torch.ones(2, 3), torch.zeros(2, 3), torch.full((3,), 0.5413), axis=1)
    tensor(0.5000)
    """
    shape = [1] * features.dim()
    shape[axis] = -1
    variance = (F.softplus(spread) + FLOOR).view(shape)
    return ((features - before).square() / variance + variance.log()).mean() / 2
