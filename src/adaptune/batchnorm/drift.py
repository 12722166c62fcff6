"""Batch norms on their way from the statistics of a source to those of a target."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptune.batchnorm.layers import batchnorms
from adaptune.batchnorm.override import BatchNormOverride
from adaptune.batchnorm.passes import statistics_of
from adaptune.batchnorm.synchronized import batch_moments, follow_, normalised

Known = dict[int, tuple[Tensor, Tensor]]


class SourceNorms(nn.Module):
    """What batch norms of a body were on the source: running statistics, weights and biases.

    Layers without running statistics are left out.

    >>> body = nn.BatchNorm1d(1)
    >>> norms = SourceNorms(body)
    >>> with norms.mixed(body, 1.0):
    ...     body(torch.tensor([[8.0], [10.0]])).flatten()
    tensor([ 8.0000, 10.0000], grad_fn=<ViewBackward0>)
    >>> body.running_mean
    tensor([0.9000])
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.start(body)

    def start(self, body: nn.Module) -> None:
        """Take what the layers are now for the source's."""
        norms = _tracking(body)
        self.statistics = nn.ModuleList(map(statistics_of, norms))
        learnt = (one for norm in norms for one in (norm.weight, norm.bias))
        for number, one in enumerate(learnt):
            self.register_buffer(f"learnt{number}", None if one is None else one.detach().clone())

    def mixed(self, body: nn.Module, share: float) -> BatchNormOverride:
        """Give a mode in which layers in train mode normalise by ``share`` of the source's.

        The rest is the batch's, of all processes, mean and variance alike; running statistics
        follow the batch, as without it. Layers in eval mode are as ever.
        """
        known = {}
        for norm, kept in zip(_tracking(body), self.statistics, strict=True):
            own = kept.get_buffer("running_mean"), kept.get_buffer("running_var")
            known[id(norm.running_mean)] = own
        return BatchNormOverride(partial(_mixed, known=known, share=share))

    def drift(self, body: nn.Module) -> Tensor:
        """Add up how far weights and biases have moved, channels that hardly differ counting more.

        It is the sum over layers and channels of (1 + a) (|w - w_s| + |b - b_s|), where a is
        proportional to 1 / (1 + d) and 1 on average, and d is how far the running means lie from
        the source's, each divided by its deviation. Source: Liu et al., 2021 (OSUDA).
        """
        moved, alike = [], []
        for at, (norm, kept) in enumerate(zip(_tracking(body), self.statistics, strict=True)):
            pairs = (norm.weight, f"learnt{2 * at}"), (norm.bias, f"learnt{2 * at + 1}")
            own = [(one - getattr(self, was)).abs() for one, was in pairs if one is not None]
            if own:
                moved.append(torch.stack(own).sum(0))
                means = [_scaled_mean(one, norm.eps) for one in (norm, kept)]
                alike.append(1 / (1 + (means[0] - means[1]).abs()))
        if not moved:
            return torch.zeros(())
        weights = torch.cat(alike)
        return ((1 + weights / weights.mean()) * torch.cat(moved)).sum()


def _tracking(body: nn.Module) -> list[_BatchNorm]:
    return [norm for _, norm in batchnorms(body) if norm.running_mean is not None]


def _scaled_mean(norm: _BatchNorm | nn.Module, eps: float) -> Tensor:
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    return mean / (variance + eps).sqrt()


def _mixed(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    known: Known,
    share: float,
) -> Tensor:
    """Stand in for torch's batch norm; see `SourceNorms.mixed`."""
    if not training or running_mean is None or running_var is None or id(running_mean) not in known:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    mean, variance, count = batch_moments(x)
    follow_(running_mean, running_var, mean, variance, count, momentum)
    source_mean, source_variance = known[id(running_mean)]
    mean = mean.lerp(source_mean.to(mean), share)
    variance = variance.lerp(source_variance.to(variance), share)
    return normalised(x, mean, variance, weight, bias, eps)
