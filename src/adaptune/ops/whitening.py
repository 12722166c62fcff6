"""Products of channels that tell of style, and which of them to take away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptune.runtime.processes import add_up, gather, join


def channel_products(maps: Tensor) -> Tensor:
    """Give each image's products of channels, (N, C, C), of maps (N, C, h, w).

    They are F F^T / (P - 1), with the maps as F (C, P) over P places, without the means taken off.
    Source: the instance covariances of IADG, Zhou et al., 2023.

    >>> channel_products(torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])).tolist()
    [[[5.0, 3.0], [3.0, 9.0]]]
    """
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / max(flat.shape[2] - 1, 1)


def pair_products(maps: Tensor, pairs: Tensor) -> Tensor:
    """Give those of `channel_products` that ``pairs`` (2, k) of channels name, (N, k).

    >>> pair_products(torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]), torch.tensor([[0], [1]]))
    tensor([[3.]])
    """
    flat = maps.flatten(2)
    return (flat[:, pairs[0]] * flat[:, pairs[1]]).sum(2) / max(flat.shape[2] - 1, 1)


def pair_count(channels: int, share: float) -> int:
    """Say how many pairs of different channels a ``share`` of all C^2 products is, at least one.

    >>> pair_count(384, 0.003), pair_count(4, 0.003)
    (442, 1)
    """
    return min(max(1, int(share * channels**2)), channels * (channels - 1) // 2)


def largest_pairs(values: Tensor, count: int) -> Tensor:
    """Name the ``count`` pairs of different channels with the largest values (C, C), (2, count).

    >>> largest_pairs(torch.tensor([[9.0, 1.0, 3.0], [1.0, 9.0, 2.0], [3.0, 2.0, 9.0]]), 2).tolist()
    [[0, 1], [2, 2]]
    """
    pairs = torch.triu_indices(len(values), len(values), offset=1, device=values.device)
    return pairs[:, values[pairs[0], pairs[1]].topk(count).indices]


class StylePairs(nn.Module):
    """The pairs of C channels whose products tell most of style, of rows of two kinds.

    Each kind has a share of all C^2 products, of which (2, k) are kept. Source: the asymmetric
    instance adaptive whitening of IADG, Zhou et al., 2023.

    >>> pairs = StylePairs(channels=3, shares=(0.5, 0.2))
    >>> pairs.first.shape, pairs.second.shape
    (torch.Size([2, 3]), torch.Size([2, 1]))
    """

    first: Tensor
    second: Tensor

    def __init__(self, channels: int, shares: tuple[float, float]) -> None:
        super().__init__()
        self.channels = channels
        for name, share in zip(("first", "second"), shares, strict=True):
            pairs = torch.zeros(2, pair_count(channels, share), dtype=torch.int64)
            self.register_buffer(name, pairs)

    def spread(self) -> Tensor:
        """Give zeros to which `add` adds, (2, C, C)."""
        return torch.zeros(2, self.channels, self.channels, device=self.first.device)

    def add(self, spread: Tensor, plain: Tensor, other: Tensor, first: Tensor) -> None:
        """Add variances of products between maps (N, C, h, w) and the same restyled, by kind.

        ``first`` (N,) says which rows are of the first kind.
        """
        for total, some in zip(spread, (first, ~first), strict=True):
            for at in torch.split(some.nonzero().flatten(), 4):  # (4, C, C) at a time
                apart = channel_products(plain[at]) - channel_products(other[at])
                total += (apart / 2).square().sum(0)

    def choose(self, spread: Tensor) -> None:
        """Keep the pairs with the largest sums, of all processes."""
        for pairs, total in zip((self.first, self.second), add_up(spread), strict=True):
            pairs.copy_(largest_pairs(total, pairs.shape[1]))

    def size(self, maps: Tensor, first: Tensor) -> Tensor:
        """Give the mean over both kinds of the mean over their rows of their pairs' |product|."""
        own, others = (pair_products(maps, one).abs().mean(1) for one in (self.first, self.second))
        each, first = join(torch.where(first, own, others)), gather(first)
        means = [(each * some).sum() / some.sum().clamp_min(1) for some in (first, ~first)]
        return torch.stack(means).mean()
