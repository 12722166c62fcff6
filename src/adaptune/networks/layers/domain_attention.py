"""Channel attention of two domains, with paths of their own where their statistics differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from adaptune.batchnorm.layers import batchnorms
from adaptune.networks.heads import Head, need_raw
from adaptune.runtime.processes import gather_each

LEAST = 4
"""Units that an attention has at least, so that one in a thin layer is not dead from the start."""


def gap(source: Tensor, target: Tensor) -> Tensor:
    """Say how far apart two domains are in ``mean / deviation`` of their activations, 0 to 1.

    It is ``tanh(|source - target| / |target|)``; the released code divides by the target's signed
    value, so that a negative mean always reads as no gap.

    >>> gap(torch.tensor(2.0), torch.tensor(2.0)), gap(torch.tensor(3.0), torch.tensor(-2.0))
    (tensor(0.), tensor(0.9866))
    """
    least = torch.finfo(target.dtype).eps
    return torch.tanh((source - target).abs() / target.abs().clamp_min(least))


def measure_channels(pooled: Tensor) -> Tensor:
    """Give count, mean and summed squared deviations of all entries of activations (N, C), (3,).

    >>> measure_channels(torch.tensor([[1.0, 3.0]]))
    tensor([2., 2., 2.])
    """
    pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
    mean = pooled.mean()
    count = torch.full_like(mean, pooled.numel())
    return torch.stack([count, mean, (pooled - mean).square().sum()])


def pool_channels(parts: Tensor) -> Tensor:
    """Give what several processes `measure_channels` apart, (P, ..., 3), as if one had: (..., 3).

    >>> own = [measure_channels(torch.tensor([[value]])) for value in (1.0, 3.0)]
    >>> pool_channels(torch.stack(own))
    tensor([2., 2., 2.])
    """
    counts, means, within = parts.unbind(-1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count.clamp_min(1)
    return torch.stack([count, mean, (within + counts * (means - mean).square()).sum(0)], -1)


def steadiness(seen: Tensor) -> Tensor:
    """Give mean over deviation of measured activations, (..., 3), as the gate has it.

    >>> steadiness(measure_channels(torch.tensor([[1.0, 3.0]])))
    tensor(1.4142)
    """
    count, mean, deviations = seen.unbind(-1)
    return mean / (deviations / (count - 1).clamp_min(1) + 1e-5).sqrt()


class DomainAttention(nn.Module):
    """Squeeze and excitation with a squeeze for each of two domains and one excitation.

    The first ``sources`` rows of a batch are of the source, the others of the target. Rows of the
    target take the source's squeeze until `decide` finds a `gap` of ``threshold`` or more;
    in train mode every batch leaves in ``seen`` what `measure_channels` gives. Channels are
    multiplied by twice the sigmoid of the excitation, which starts at zero: at first it changes
    nothing. Source: Generalized Domain Conditioned Adaptation Network (Li et al., 2021).

    >>> attention = DomainAttention(8)
    >>> x = torch.rand(2, 8, 4, 4)
    >>> torch.equal(attention(x), x)
    True
    """

    seen: Tensor
    separate: Tensor

    def __init__(self, channels: int, *, reduction: int = 16, threshold: float = 0.2) -> None:
        super().__init__()
        self.channels, self.threshold, self.sources = channels, threshold, 0
        hidden = max(channels // reduction, LEAST)
        self.source, self.target = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.target.load_state_dict(self.source.state_dict())
        self.excite = nn.Linear(hidden, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)
        self.register_buffer("seen", torch.zeros(2, 3))
        self.register_buffer("separate", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of ``x``: (N, C, ...) or, as transformers have them, (N, ..., C)."""
        axis = 1 if x.dim() != 3 and x.shape[1] == self.channels else x.dim() - 1
        pooled = x.movedim(axis, 1).flatten(2).mean(2) if x.dim() > 2 else x
        ours, theirs = pooled[: self.sources], pooled[self.sources :]
        if self.training:
            for domain, one in enumerate((ours, theirs)):
                if len(one):
                    self.seen[domain] = measure_channels(one.detach())
        apart = torch.where(self.separate, self.target(theirs), self.source(theirs))
        hidden = torch.relu(torch.cat([self.source(ours), apart]))
        factor = 2 * torch.sigmoid(self.excite(hidden))
        shape = [len(x)] + [1] * (x.dim() - 1)
        shape[axis] = self.channels
        return x * factor.to(x.dtype).reshape(shape)


def attentions(model: nn.Module) -> list[DomainAttention]:
    """List the domain attentions of a model.

    >>> len(attentions(nn.Sequential(DomainAttention(4), nn.ReLU())))
    1
    """
    return [module for module in model.modules() if isinstance(module, DomainAttention)]


@torch.no_grad()
def decide(model: nn.Module) -> None:
    """Separate a model's paths where the domains' last batches differ, else let them share one.

    >>> attention = DomainAttention(4)
    >>> with source_first(attention, 2):
    ...     _ = attention(torch.tensor([[0.0], [1.0], [4.0], [5.0]]).expand(4, 4))
    >>> decide(attention)
    >>> attention.separate
    tensor(True)
    """
    found = attentions(model)
    if not found:
        return
    seen = pool_channels(torch.stack(gather_each(torch.stack([one.seen for one in found]))))
    for one, whole in zip(found, seen, strict=True):
        one.seen.copy_(whole)
        one.separate.copy_(gap(*steadiness(whole)) >= one.threshold)


@contextmanager
def source_first(model: nn.Module, rows: int) -> Iterator[None]:
    """Let the first ``rows`` of every batch take the source's path; else all take the target's.

    >>> attention = DomainAttention(4)
    >>> with source_first(attention, 3):
    ...     print(attention.sources)
    3
    >>> attention.sources
    0
    """
    found = attentions(model)
    for one in found:
        one.sources = rows
    try:
        yield
    finally:
        for one in found:
            one.sources = 0


class CorrectedLinear(nn.Linear, Head):
    """A linear head that corrects the target's features before it reads them, and logits after.

    `plain` reads features of the source. Both corrections are added, and start at zero. Source:
    Generalized Domain Conditioned Adaptation Network (Li et al., 2021).

    >>> head, x = CorrectedLinear(nn.Linear(4, 3)), torch.rand(2, 4)
    >>> torch.equal(head(x), head.plain(x))
    True
    """

    def __init__(self, old: nn.Linear, hidden: int = 128) -> None:
        width, outputs = old.in_features, old.out_features
        super().__init__(width, outputs)
        self.weight, self.bias = old.weight, old.bias
        self.features, self.logits = _corrector(width, hidden), _corrector(outputs, outputs)

    def correct(self, features: Tensor) -> Tensor:
        """Bring features (N, D) of the target to where those of the source are."""
        return features + self.features(features)  # type: ignore[no-any-return]

    def plain(self, features: Tensor) -> Tensor:
        """Read features (N, D) as they are: logits (N, K)."""
        return super().forward(features)

    def read(self, corrected: Tensor) -> Tensor:
        """Read corrected features (N, D), and correct the logits (N, K)."""
        logits = self.plain(corrected)
        return logits + self.logits(logits)  # type: ignore[no-any-return]

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D) of the target: logits (N, K)."""
        return self.read(self.correct(features))

    def fold(self) -> CorrectedLinear:
        """Give itself, which reads raw features."""
        return self


def _corrector(width: int, hidden: int) -> nn.Sequential:
    last = nn.Linear(hidden, width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)


def domain_attention(
    body: nn.Module, head: Head, *, reduction: int = 16, threshold: float = 0.2
) -> tuple[nn.Module, CorrectedLinear]:
    """Put a `DomainAttention` behind every stage of ``body``, and correct the head's input.

    In timm's residual networks it goes, as in the paper, to the end of each block's residual
    branch; in its other networks behind every stage; elsewhere behind every batch norm.

    Raises:
        ValueError: If the body has none of these, or the head is not linear.
    """
    found = list(_places(body))
    if not found:
        raise ValueError(
            "domain attention goes behind the stages of a timm network or behind batch norms, and "
            "there are none: take a network that has them"
        )
    for name, channels in found:
        made = DomainAttention(channels, reduction=reduction, threshold=threshold)
        parent, _, last = name.rpartition(".")
        if last == "se":
            setattr(body.get_submodule(parent), last, made)
        elif isinstance(old := body.get_submodule(name), nn.Sequential):
            old.append(made)
        else:
            body.set_submodule(name, nn.Sequential(old, made))
    return body, CorrectedLinear(need_raw(head, "domain attention"))


def _places(body: nn.Module) -> Iterator[tuple[str, int]]:
    """Name where attention goes, and how many channels there are."""
    from timm.models.resnet import BasicBlock, Bottleneck

    branches = [
        (f"{name}.se", norm.num_features)
        for name, block in body.named_modules()
        if isinstance(block, BasicBlock | Bottleneck) and block.se is None
        for _, norm in list(batchnorms(block))[-1:]
    ]
    stages = getattr(body, "feature_info", [])
    known = [(one["module"], one["num_chs"]) for one in stages if isinstance(one, dict)]
    norms = [(name, norm.num_features) for name, norm in batchnorms(body)]
    yield from branches or known or norms
