"""Attention of each place to those around it, behind the last stage of a network."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head

MOST_KERNEL = 255
MOST_HEADS = 8


class NeighbourhoodAttention(nn.Module):
    """Let each place of features (N, D, h, w) look at the ``kernel`` x ``kernel`` nearest ones.

    At a border the window is moved inwards, so that each place sees as many; a grid smaller than
    the window is seen as a whole. How far two places lie apart has a weight of its own, for each
    head. What is seen is added to what is there, through a layer that begins at zero: at first
    nothing changes. It compares all places of a grid and leaves out those beyond the window, so
    memory grows with the square of their number. Source: Neighborhood Attention Transformer
    (Hassani et al., 2023).

    Raises:
        ValueError: If ``kernel`` is even or too large to be believed.

    >>> attention = NeighbourhoodAttention(8, kernel=3)
    >>> x = torch.rand(2, 8, 5, 6)
    >>> torch.equal(attention(x), x)
    True
    """

    def __init__(self, width: int, *, kernel: int = 13) -> None:
        super().__init__()
        if not (0 < kernel <= MOST_KERNEL and kernel % 2):
            raise ValueError(f"a window has an odd side from 1 to {MOST_KERNEL}: got {kernel}")
        self.kernel, self.heads = kernel, math.gcd(width, MOST_HEADS)
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.apart = nn.Parameter(torch.zeros(self.heads, 2 * kernel - 1, 2 * kernel - 1))
        self.give = nn.Linear(width, width)
        nn.init.zeros_(self.give.weight)
        nn.init.zeros_(self.give.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Add to each place what it sees around it."""
        count, width, height, across = x.shape
        places = self.norm(x.flatten(2).transpose(1, 2))
        parts = self.ask(places).view(count, -1, 3, self.heads, width // self.heads)
        asked, keys, values = parts.permute(2, 0, 3, 1, 4)
        weights = self.weights(height, across).to(asked.dtype)
        seen = F.scaled_dot_product_attention(asked, keys, values, attn_mask=weights)
        given = self.give(seen.transpose(1, 2).reshape(count, -1, width))
        return x + given.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]

    def weights(self, height: int, width: int) -> Tensor:
        """Give what is added to the likeness of places (heads, h * w, h * w), -inf beyond reach."""
        (down, near), (right, beside) = (self._axis(side) for side in (height, width))
        apart = self.apart[:, down[:, None, :, None], right[None, :, None, :]]
        within = near[:, None, :, None] & beside[None, :, None, :]
        return apart.masked_fill(~within, -torch.inf).flatten(3).flatten(1, 2)

    def _axis(self, side: int) -> tuple[Tensor, Tensor]:
        """Say of an axis how far its places lie apart, as an index, and which see which."""
        at = torch.arange(side, device=self.apart.device)
        wide = min(self.kernel, side)
        first = (at - wide // 2).clamp(0, side - wide).unsqueeze(1)
        within = (at >= first) & (at < first + wide)
        apart = (at - at.unsqueeze(1) + self.kernel - 1).clamp(0, 2 * self.kernel - 2)
        return apart, within


class AttendedFeatures(nn.Module):
    """A body whose features (N, D, h, w) look around themselves, where no last stage is known."""

    def __init__(self, body: nn.Module, attention: NeighbourhoodAttention) -> None:
        super().__init__()
        self.body, self.attention = body, attention

    def forward(self, x: Tensor) -> Tensor:
        """Give the features of the body, each with what it sees around it."""
        return self.attention(self.body(x))  # type: ignore[no-any-return]


def neighbourhood_attention(body: nn.Module, head: Head, *, kernel: int) -> tuple[nn.Module, Head]:
    """Put a `NeighbourhoodAttention` behind a network's last stage: a surgery.

    The last stage is that of timm's features; elsewhere it goes behind the whole body.

    >>> body, _ = neighbourhood_attention(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), kernel=3)
    >>> type(body).__name__, body(torch.zeros(1, 3, 4, 4)).shape
    ('AttendedFeatures', torch.Size([1, 8, 4, 4]))
    """
    name, width = _last_stage(body)
    if not name:
        attention = NeighbourhoodAttention(head.weight.shape[1], kernel=kernel)
        return AttendedFeatures(body, attention), head
    last, attention = body.get_submodule(name), NeighbourhoodAttention(width, kernel=kernel)
    if isinstance(last, nn.Sequential):
        last.append(attention)
    else:
        body.set_submodule(name, nn.Sequential(last, attention))
    return body, head


def _last_stage(body: nn.Module) -> tuple[str, int]:
    """Name the last stage of timm's features and its channels; nothing where it gives no maps."""
    from timm.models._features import FeatureGetterNet

    known: Any = getattr(body, "feature_info", None)
    if isinstance(body, FeatureGetterNet) or not hasattr(known, "get_dicts"):
        return "", 0
    last = known.get_dicts()[-1]
    names = {name for name, _ in body.named_modules()}
    found = [name for name in (last["module"], last["module"].replace(".", "_")) if name in names]
    return (found or [""])[0], last["num_chs"]
