"""A head that grows: one route a domain, and images take the first that knows their like."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw, read_linear
from adaptune.ops.hypervectors import encode, strangeness

MOST_CODES, MOST_UNITS = 65536, 65536


class Memory(nn.Module):
    """What a route knows: a bundle of hypervectors a class (K, H), and how strange is too strange.

    Until it is filled, nothing is.
    """

    bundles: Tensor
    limit: Tensor

    def __init__(self, classes: int, codes: int) -> None:
        super().__init__()
        self.register_buffer("bundles", torch.zeros(classes, codes))
        self.register_buffer("limit", torch.full((), torch.inf))


class Route(nn.Module):
    """A shallow adaptor with a residual way around it, and what reads it out: (N, D) to (N, K).

    It begins as ``readout``, since the adaptor adds nothing at first.
    """

    def __init__(self, readout: nn.Linear, units: int) -> None:
        super().__init__()
        width = readout.in_features
        self.down, self.up = nn.Linear(width, units), nn.Linear(units, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.readout = Readout(width, readout.out_features)
        self.readout.load_state_dict(
            {"weight": readout.weight.detach(), "bias": readout.bias.detach()}
        )

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D)."""
        out: Tensor = self.readout(features + self.up(F.relu(self.down(features))))
        return out


class RoutedHead(nn.Linear, Head):
    """A linear head, the first route, with further ones behind it.

    A row of features takes the first route to which it is not too strange, or else the one whose
    limit it is beyond by least. So what is familiar to an earlier route no later one changes.
    ``learning`` is the route that is trained, -1 for none.

    Source: the structure of EAR (Daniels et al., 2023).

    >>> head = RoutedHead(Readout(2, 3), codes=16)
    >>> head(torch.randn(5, 2)).shape, len(head.memories)
    (torch.Size([5, 3]), 1)
    """

    projection: Tensor
    center: Tensor
    learning: Tensor

    def __init__(self, head: nn.Linear, codes: int) -> None:
        width, outputs = head.in_features, head.out_features
        super().__init__(width, outputs)
        self.weight, self.bias = head.weight, head.bias
        self.routes = nn.ModuleList()
        self.memories = nn.ModuleList([Memory(outputs, codes)])
        self.register_buffer("projection", torch.randn(codes, width))
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("learning", torch.zeros((), dtype=torch.int64))
        self.to(head.weight)

    def grow(self, units: int) -> None:
        """Add a route, that begins as the first one's readout."""
        first = Readout(self.in_features, self.out_features).to(self.weight)
        first.load_state_dict({"weight": self.weight.detach(), "bias": self.bias.detach()})
        self.routes.append(Route(first, units).to(self.weight))
        bundles = self.memory(0).bundles
        self.memories.append(Memory(*bundles.shape).to(bundles))

    def memory(self, route: int) -> Memory:
        """Give what a route knows; -1 is the last."""
        found = self.memories[route]
        assert isinstance(found, Memory)
        return found

    def codes(self, features: Tensor) -> Tensor:
        """Give the hypervectors (N, H) of features (N, D)."""
        return encode(features - self.center, self.projection)

    def excess(self, features: Tensor) -> Tensor:
        """Say by how much features (N, D) are too strange to each route, (N, R); 0 is not."""
        codes = self.codes(features)
        known = map(self.memory, range(len(self.memories)))
        found = [strangeness(codes, one.bundles) - one.limit for one in known]
        return torch.stack(found, 1)

    def choose(self, features: Tensor) -> Tensor:
        """Give the route of each row, int64 (N,)."""
        excess = self.excess(features)
        fits = excess <= 0
        return torch.where(fits.any(1), fits.int().argmax(1), excess.argmin(1))

    def read(self, features: Tensor, route: int) -> Tensor:
        """Read features (N, D) by one route."""
        if route == 0:
            return read_linear(features, self.weight, self.bias)
        out: Tensor = self.routes[route - 1](features)
        return out

    def forward(self, features: Tensor) -> Tensor:
        """Read each row by its route: logits (N, K)."""
        each = torch.stack([self.read(features, at) for at in range(len(self.memories))], 1)
        return each[torch.arange(len(each), device=each.device), self.choose(features)]

    def fold(self) -> RoutedHead:
        """Give itself, which reads raw features."""
        return self


def routed_head(body: nn.Module, head: Head, *, codes: int) -> tuple[nn.Module, RoutedHead]:
    """Put a `RoutedHead` of one route into a head's place: a surgery.

    Raises:
        ValueError: If hypervectors are too long to be believed, or the head is not linear.

    >>> len(routed_head(nn.Identity(), Readout(2, 3), codes=8)[1].memories)
    1
    """
    if not 1 <= codes <= MOST_CODES:
        raise ValueError(f"hypervectors have 1 to {MOST_CODES} signs: got {codes}")
    return body, RoutedHead(need_raw(head, "a head of routes"), codes)


def further_route(body: nn.Module, head: Head, *, units: int) -> tuple[nn.Module, RoutedHead]:
    """Add a route to a `RoutedHead`: a surgery.

    Raises:
        ValueError: If the head has no routes, or the adaptor is beyond belief.

    >>> body, head = routed_head(nn.Identity(), Readout(2, 3), codes=8)
    >>> len(further_route(body, head, units=4)[1].memories)
    2
    """
    if not isinstance(head, RoutedHead) or not 1 <= units <= MOST_UNITS:
        raise ValueError(f"a route of 1 to {MOST_UNITS} units is added to a head of routes")
    head.grow(units)
    return body, head
