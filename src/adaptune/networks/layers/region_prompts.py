"""Features that know their region's mean and those of regions alike; a head of prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head
from adaptune.networks.regions import Regions, regions_of
from adaptune.ops.self_support import refined
from adaptune.runtime.devices import to_float64

AGGREGATED = 0.1
"""How much of what regions tell each other is added."""


class RegionGraph(nn.Module):
    """Let the mean features of regions (N, R, D) tell each other what they are, by their cosines.

    A layer projects them; edges are cosines of the projected, each divided by the sum of its row,
    and a tenth of what comes along them is added. Regions without a place take no part. Source:
    GPRN, Peng et al., 2025. The layer begins as the identity, which is ours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, means: Tensor, there: Tensor) -> Tensor:
        """Give prompts (N, R, D) for regions, of which some are ``there`` (N, R)."""
        nodes = self.project(means) * there.unsqueeze(2)
        return means + AGGREGATED * (edges(nodes) @ nodes)  # type: ignore[no-any-return]


def edges(nodes: Tensor) -> Tensor:
    """Give the weights of nodes (N, R, D) for each other, (N, R, R): cosines by their row's sum.

    >>> edges(torch.ones(1, 2, 3)).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """
    unit = F.normalize(nodes, dim=2)
    alike = unit @ unit.transpose(1, 2)
    return alike / (alike.sum(2, keepdim=True) + 1e-8)


class RegionPrompts(nn.Module):
    """A body whose features (N, D, h, w) have their region's prompt added; none where no region.

    ``regions`` is any callable that gives images (N, 3, H, W) the numbers of regions (N, H, W), -1
    for none. They are brought to the features' grid by the region at each place's centre.
    """

    def __init__(self, body: nn.Module, regions: Regions, width: int) -> None:
        super().__init__()
        self.body, self.regions, self.graph = body, regions, RegionGraph(width)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features with their prompts."""
        features = self.body(x)
        numbers = to_float64(self.regions(x)).unsqueeze(1)
        near = F.interpolate(numbers, features.shape[2:], mode="nearest-exact")
        own = near.long().flatten(1).to(x.device)
        most = int(own.max()) + 1
        masks = F.one_hot(own.where(own >= 0, most), most + 1)[:, :, :most].to(features.dtype)
        places = features.flatten(2).transpose(1, 2)
        count = masks.sum(1).unsqueeze(2)
        means = masks.transpose(1, 2) @ places / count.clamp_min(1)
        prompts = masks @ self.graph(means, count.squeeze(2) > 0)
        return features + prompts.transpose(1, 2).view_as(features)  # type: ignore[no-any-return]


class PrototypeHead(Head):
    """Read features (N, D, h, w) by prototypes (K, D), refined by each image's own sure places.

    ``there`` says which classes have a prototype; class 0 is the background (`refined`).

    >>> PrototypeHead(4, 3)(torch.rand(2, 4, 5, 5)).shape
    torch.Size([2, 3, 5, 5])
    """

    weight: Tensor
    there: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, width))
        self.register_buffer("there", torch.ones(outputs, dtype=torch.bool))

    def forward(self, features: Tensor) -> Tensor:
        """Predict: logits (N, K, h, w)."""
        count = len(features)
        near = self.weight.to(features.dtype).expand(count, -1, -1)
        return refined(features, near, self.there.expand(count, -1)).twice

    def fold(self) -> PrototypeHead:
        """Give itself, which reads raw features."""
        return self


def region_prompts(body: nn.Module, head: Head, *, regions: str) -> tuple[nn.Module, PrototypeHead]:
    """Add prompts of regions to a body's features, and read them by prototypes: a surgery.

    Raises:
        ValueError: If regions are found by nothing of that name.
    """
    outputs, width = head.weight.shape
    made = PrototypeHead(width, outputs).to(head.weight.device)
    return RegionPrompts(body, regions_of(regions), width).to(head.weight), made
