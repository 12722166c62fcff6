"""A body's features told by a memory of sub-prototypes, the nearest of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw
from adaptune.ops.clustering import kmeans
from adaptune.runtime.processes import broadcast_from_first

MOST_ENTRIES = 1_000_000


class SubPrototypes(nn.Module):
    """A body's features (N, D) as a mixture of ``items`` sub-prototypes, (N, D).

    ``memory`` is (items, parts, D). Of each item the part nearest by cosine stands for it (`read`).
    Source: MemSPM (Lai et al., 2024).

    >>> SubPrototypes(nn.Identity(), width=3, items=4, parts=2, nearest=2)(torch.ones(5, 3)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, body: nn.Module, *, width: int, items: int, parts: int, nearest: int
    ) -> None:
        super().__init__()
        self.body, self.nearest = body, nearest
        self.memory = nn.Parameter(torch.randn(items, parts, width))

    @torch.no_grad()
    def begin(self, features: Tensor) -> None:
        """Let every item begin at a cluster of features (N, D), its parts at some of their rows."""
        items, parts, _ = self.memory.shape
        centres = kmeans(features, items)
        members = F.one_hot(torch.cdist(features, centres).argmin(1), len(centres)).T.to(features)
        rows = broadcast_from_first(lambda: members.multinomial(parts, replacement=True))
        item = torch.arange(items, device=features.device) % len(centres)
        self.memory.copy_(features[rows.to(features.device)[item]])

    def forward(self, x: Tensor) -> Tensor:
        """Give what the memory tells of inputs."""
        return self.read(self.body(x))

    def read(self, features: Tensor) -> Tensor:
        """Give what the memory tells of features (N, D): the mean of its parts by `address`."""
        weights, part = address(features, self.memory, self.nearest)
        item = torch.arange(len(self.memory), device=part.device)
        return torch.einsum("ni,nid->nd", weights, self.memory[item, part])


def address(features: Tensor, memory: Tensor, nearest: int) -> tuple[Tensor, Tensor]:
    """Say how much each item of a memory (I, S, D) counts for features (N, D), and by which part.

    The weights (N, I) are a softmax over items of the largest cosine of their parts; the
    ``nearest`` largest are kept, the others 0, and they add up to 1. Parts are (N, I) int64.
    Source: MemSPM (Lai et al., 2024), its threshold being the smallest weight that is kept.

    >>> memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [-1.0, 1.0]]])
    >>> address(torch.tensor([[0.0, 2.0]]), memory, 1)
    (tensor([[1., 0.]]), tensor([[1, 0]]))
    """
    cosines = torch.einsum("nd,isd->nis", F.normalize(features, dim=1), F.normalize(memory, dim=2))
    alike, part = cosines.max(2)
    weights = alike.softmax(1)
    kept = weights.detach().topk(min(nearest, len(memory)), dim=1).indices
    sparse = weights * torch.zeros_like(weights).scatter(1, kept, 1.0)
    return sparse / sparse.sum(1, keepdim=True), part


def sub_prototypes(
    body: nn.Module, head: Head, *, items: int, parts: int, nearest: int
) -> tuple[nn.Module, Readout]:
    """Put a memory of sub-prototypes behind a body: a surgery.

    Raises:
        ValueError: If it is empty or larger than can be believed, or the head is not linear.
    """
    if items < 1 or parts < 1 or nearest < 1 or items * parts > MOST_ENTRIES:
        raise ValueError(
            f"a memory has 1 to {MOST_ENTRIES} parts, of which some are near: got {items} items of "
            f"{parts}, {nearest} near"
        )
    plain = need_raw(head, "a memory of sub-prototypes")
    made = SubPrototypes(body, width=plain.in_features, items=items, parts=parts, nearest=nearest)
    made.memory.data = made.memory.data.to(plain.weight)
    assert isinstance(plain, Readout)
    return made.train(body.training), plain
