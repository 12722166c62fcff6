"""Batch norms that see the batches of all processes as one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.batchnorm.override import BatchNormOverride
from adaptune.runtime.processes import gather_each, rank_and_world


def synchronized_batch_norm() -> BatchNormOverride:
    """Give a mode in which batch norms in train mode normalise by the rows of all processes.

    The network stays as it is, on any device; without other processes nothing changes.

    >>> with synchronized_batch_norm():
    ...     torch.nn.BatchNorm1d(2)(torch.eye(2)).sum().item()
    0.0
    """
    return BatchNormOverride(batch_norm if rank_and_world()[1] > 1 else F.batch_norm)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do as `torch.nn.functional.batch_norm` on the rows of all processes, (N, C, ...) in each.

    All processes must call it, and run its backward pass; those may have different numbers of
    rows. Gradients flow through the common statistics.

    >>> x = torch.randn(8, 2)
    >>> same = batch_norm(x, None, None, training=True)
    >>> torch.allclose(same, F.batch_norm(x, None, None, training=True), atol=1e-6)
    True
    """
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    mean, variance, count = batch_moments(x)
    if running_mean is not None and running_var is not None:
        follow_(running_mean, running_var, mean, variance, count, momentum)
    return normalised(x, mean, variance, weight, bias, eps)


def batch_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the mean and biased variance (C,) of all processes' rows (N, C, ...), and their count.

    Gradients flow through both. All processes must call it, and run its backward pass.

    >>> mean, variance, count = batch_moments(torch.tensor([[1.0], [3.0]]))
    >>> mean.item(), variance.item(), count.item()
    (2.0, 1.0, 2.0)
    """
    over = [0, *range(2, x.dim())]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    own = wide.new_full((1,), x.numel() // x.shape[1])
    summed = Summed.apply(torch.cat([wide.sum(over), own]))
    count = summed[-1].detach()
    mean = summed[:-1] / count
    centred = wide - mean.view([1, -1, *[1] * (x.dim() - 2)])
    return mean, Summed.apply(centred.square().sum(over)) / count, count


@torch.no_grad()
def follow_(
    running_mean: Tensor,
    running_var: Tensor,
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    momentum: float,
) -> None:
    """Let running statistics follow those of a batch, in place, as torch's batch norm does.

    >>> running = torch.zeros(1), torch.ones(1)
    >>> follow_(*running, torch.ones(1), torch.ones(1), torch.tensor(2.0), 0.5)
    >>> running
    (tensor([0.5000]), tensor([1.5000]))
    """
    running_mean.lerp_(mean.to(running_mean), momentum)
    unbiased = variance * count / (count - 1).clamp_min(1)
    running_var.lerp_(unbiased.to(running_var), momentum)


def normalised(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalise ``x`` (N, C, ...) by moments (C,), as batch norm does.

    >>> normalised(torch.tensor([[3.0]]), torch.ones(1), torch.ones(1), None, None, 0.0)
    tensor([[2.]])
    """
    shape = [1, -1, *[1] * (x.dim() - 2)]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    out = (wide - mean.view(shape)) * (variance + eps).rsqrt().view(shape)
    out = out if weight is None else out * weight.view(shape)
    out = out if bias is None else out + bias.view(shape)
    return out.to(x.dtype)


class Summed(torch.autograd.Function):
    """The sum over processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        """Add up what all processes hold."""
        del context
        return torch.stack(gather_each(own)).sum(0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Add up the gradients of all processes."""
        del context
        return torch.stack(gather_each(gradients[0])).sum(0)
