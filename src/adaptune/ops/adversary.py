"""A critic that tells domains apart, and features that learn the opposite."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


def reverse(x: Tensor, scale: float) -> Tensor:
    """Give ``x`` itself; the gradient that comes back is ``-scale`` times what it was.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    reversed_: Tensor = _Reversal.apply(x, scale)
    return reversed_


def ramp(progress: float) -> float:
    """Give the weight of an adversary at ``progress`` (0 to 1): from 0 to nearly 1, fast at first.

    Source: Ganin et al., 2016, with their gamma of 10.

    >>> ramp(0.0), round(ramp(0.1), 3), round(ramp(1.0), 4)
    (0.0, 0.462, 0.9999)
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class Critic(nn.Sequential):
    """Layers that read features (N, D, ...) place by place, by axis 1: one logit each, (N, 1, ...).

    >>> Critic(nn.Linear(3, 1))(torch.zeros(2, 3, 4, 5)).shape
    torch.Size([2, 1, 4, 5])
    """

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D, ...)."""
        if features.dim() == 2:
            return super().forward(features)  # type: ignore[no-untyped-call,no-any-return]
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)  # type: ignore


def critic(width: int, hidden: int) -> Critic:
    """Make a critic of features (N, ``width``, ...), with two hidden layers: (N, 1, ...).

    >>> critic(3, 8)(torch.zeros(2, 3)).shape
    torch.Size([2, 1])
    """
    return Critic(
        nn.Linear(width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


LEAST_SIDE = 32
"""The smallest map that halving five times leaves something of."""


def map_critic(classes: int, hidden: int) -> nn.Sequential:
    """Make a critic of maps (N, ``classes``, H, W), of 32 places a side or more.

    Five convolutions of 4 x 4 places halve the map each, with ``hidden`` channels after the first
    and twice as many after each of the next three: (N, 1, H / 32, W / 32). Source: Tsai et al.,
    2018.

    >>> map_critic(3, 2)(torch.zeros(1, 3, 64, 96)).shape
    torch.Size([1, 1, 2, 3])
    """
    widths = [classes, *(hidden * 2**at for at in range(4)), 1]
    layers: list[nn.Module] = []
    for read, made in pairwise(widths):
        layers += [nn.Conv2d(read, made, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def as_it_is(module: nn.Module, x: Tensor) -> Tensor:
    """Give what a module makes of ``x``, so that gradients reach ``x`` and not its parameters.

    >>> judge, x = nn.Linear(1, 1), torch.ones(1, requires_grad=True)
    >>> as_it_is(judge, x).backward()
    >>> judge.weight.grad is None, bool(x.grad == judge.weight)
    (True, True)
    """
    fixed = {name: one.detach() for name, one in module.named_parameters()}
    return functional_call(module, fixed, (x,))  # type: ignore[no-any-return]


def domain_loss(
    source: Tensor, target: Tensor, *, weights: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Give what a critic loses that says ``source`` (N, 1, ...) and ``target`` (M, 1, ...).

    These are logits: source places should be called 1 and target places 0; both domains count
    alike. ``weights``, of their shapes, say how often each loss counts in its domain's mean.

    >>> round(float(domain_loss(torch.zeros(2, 1), torch.zeros(3, 1))), 4)
    0.6931
    """
    ours = F.binary_cross_entropy_with_logits(source, torch.ones_like(source), reduction="none")
    theirs = F.binary_cross_entropy_with_logits(target, torch.zeros_like(target), reduction="none")
    if weights is not None:
        ours, theirs = weights[0] * ours, weights[1] * theirs
    return (ours.mean() + theirs.mean()) / 2


def multilinear(features: Tensor, probabilities: Tensor) -> Tensor:
    """Give the products of every feature (N, D) with every probability (N, K), (N, D * K).

    Source: Long et al., 2018.

    >>> multilinear(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]]))
    tensor([[0.5000, 1.0000, 1.0000, 2.0000]])
    """
    return (features.unsqueeze(2) * probabilities.unsqueeze(1)).flatten(1)


def random_multilinear(
    features: Tensor, probabilities: Tensor, sums: Tensor, mixes: Tensor
) -> Tensor:
    """Give products of sums of features (N, D) and of probabilities (N, K), (N, R).

    ``sums`` (D, R) and ``mixes`` (K, R) are normal numbers that stay. An inner product of two rows
    has the mean of that of their `multilinear` products. Source: Long et al., 2018.

    >>> one = torch.ones(1, 4)
    >>> random_multilinear(torch.ones(1, 2), torch.ones(1, 1), one.repeat(2, 1), one)
    tensor([[1., 1., 1., 1.]])
    """
    product: Tensor = (features @ sums) * (probabilities @ mixes)
    return product / math.sqrt(sums.shape[1])
