"""Random small networks with batch norms of every kind and state, and batches to run them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.Hardswish, nn.Tanh, nn.SiLU, nn.Identity, nn.Dropout)
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
HALVES = (torch.float16, torch.bfloat16)
PRECISIONS = (torch.float32, torch.float32, torch.float64)

# The smallest epsilons would make weights that float16 cannot hold: it ends at 6e-8.
EPSILONS = {torch.float16: (1e-5, 1e-3, 0.5)}
TINY_EPSILONS = (1e-5, 1e-3, 0.5, 1e-12, 100.0)


class Sum(nn.Module):
    """A residual branch."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Fork(nn.Module):
    """Two branches side by side; their channels are concatenated."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Rooted(nn.Module):
    """A network with a batch norm that no value reaches."""

    def __init__(self, body: nn.Module, unused: nn.Module) -> None:
        super().__init__()
        self.body, self.unused = body, unused

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@dataclass
class Case:
    """A network in any mode, the batches to convert it on, and images that it has not seen."""

    net: nn.Module
    batches: list[Tensor]
    fresh: Tensor
    precision: torch.dtype
    pooling: str
    missing_affine: str


@dataclass
class Maker:
    """Draws layers; remembers the batch norms that it made, to use them twice."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    rank: int
    epsilons: tuple[float, ...]
    without_statistics: bool
    made: list[nn.Module] = field(default_factory=list)

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def norm(self, channels: int) -> nn.Module:
        """Draw a batch norm that has been trained on who knows what."""
        kind = self.one_of(NORMS[self.rank], NORMS[self.rank], nn.SyncBatchNorm)
        norm = kind(
            channels,
            eps=self.one_of(*self.epsilons),
            momentum=self.one_of(0.1, None, 0.0, 1.0),
            affine=self.one_of(True, True, True, True, False),
            track_running_stats=not (self.without_statistics and self.one_of(True, False)),
        )
        with torch.no_grad():
            self._statistics(norm)
            self._affine(norm)
        norm.track_running_stats &= self.one_of(True, True, True, False)
        self.made.append(norm)
        return norm

    def _statistics(self, norm: nn.Module) -> None:
        if norm.running_mean is None:
            return
        norm.running_mean.normal_().mul_(self.one_of(1.0, 1.0, 0.0, 300.0))
        spread = self.one_of("usual", "usual", "zero", "tiny", "huge", "mixed")
        own = {"zero": 0.0, "tiny": 1e-8, "huge": 3e4}
        norm.running_var.uniform_(0.5, 2)
        if spread in own:
            norm.running_var.fill_(own[spread])
        elif spread == "mixed":
            norm.running_var[0] = 1e-6

    def _affine(self, norm: nn.Module) -> None:
        if norm.weight is None:
            return
        weight = self.one_of("usual", "usual", "zero", "negative", "large")
        norm.weight.normal_().add_(0.5)
        norm.bias.normal_().mul_(self.one_of(0.0, 1.0, 20.0))
        if weight == "zero":
            norm.weight[1:] = 0.0
        elif weight == "negative":
            norm.weight.abs_().neg_()
        elif weight == "large":
            norm.weight.mul_(30)
        lacks = self.one_of("", "", "", "", "weight", "bias")
        if lacks:
            setattr(norm, lacks, None)

    def used_again(self, channels: int) -> nn.Module:
        """Use a batch norm a second time where one fits; draw one otherwise."""
        kinds = (NORMS[self.rank], nn.SyncBatchNorm)
        fits = [n for n in self.made if isinstance(n, kinds) and n.num_features == channels]
        return self.one_of(*fits) if fits else self.norm(channels)

    def mixer(self, before: int, after: int) -> nn.Module:
        """Draw a convolution or linear layer, now and then with a dead channel."""
        if self.rank:
            width = self.one_of(1, 3)
            bias = self.one_of(True, False)
            layer = CONVOLUTIONS[self.rank](before, after, width, padding=width // 2, bias=bias)
        else:
            layer = nn.Linear(before, after)
        if self.one_of(False, False, False, True):
            with torch.no_grad():
                layer.weight[0] = 0
        return layer

    def layer(self, channels: int, depth: int) -> tuple[nn.Module, int]:
        """Draw one layer or block; give the channels that come out of it."""
        simple = ("norm", "norm", "norm", "mixer", "mixer", "again", "activation")
        kind = self.one_of(*simple, *(("sum", "fork", "nest") if depth else ()))
        if kind == "norm":
            return self.norm(channels), channels
        if kind == "again":
            return self.used_again(channels), channels
        if kind == "mixer":
            after = self.one_of(1, 2, 3)
            return self.mixer(channels, after), after
        if kind == "activation":
            return self.one_of(*ACTIVATIONS)(), channels
        return self.block(kind, channels, depth - 1)

    def block(self, kind: str, channels: int, depth: int) -> tuple[nn.Module, int]:
        """Draw a nested part."""
        inner, width = self.chain(channels, depth, 3)
        if kind == "sum":
            return Sum(nn.Sequential(inner, self.mixer(width, channels))), channels
        if kind == "fork" and width < 4:
            other, more = self.chain(channels, depth, 2)
            return Fork(inner, other), width + more
        return inner, width

    def chain(self, channels: int, depth: int, longest: int) -> tuple[nn.Sequential, int]:
        layers = []
        for _ in range(self.draw(st.integers(1, longest))):
            layer, channels = self.layer(channels, depth)
            layers.append(layer)
        return nn.Sequential(*layers), channels

    def network(self, channels: int) -> nn.Module:
        """Draw a whole network: a trunk, perhaps pooled to one value a channel, and a head."""
        trunk, channels = self.chain(channels, 2, 5)
        parts: list[nn.Module] = [trunk]
        ending = self.one_of("none", "pool", "flat") if self.rank else "none"
        if ending != "none":
            parts.append(POOLS[self.rank](1))
            if ending == "flat":
                parts.append(nn.Flatten())
                self.rank = 0
            parts += [self.norm(channels), self.one_of(*ACTIVATIONS)()]
        parts.append(self.mixer(channels, 2))
        net = nn.Sequential(*parts)
        if self.one_of(False, False, False, True):
            return Rooted(net, self.norm(2))
        return net


def images(draw: Any, rank: int, channels: int, sizes: list[int]) -> list[Tensor]:
    """Draw batches that differ in mean and size, as those of sorted classes do."""
    sides = [draw(st.integers(1, 3)) for _ in range(rank)]
    scale = draw(st.sampled_from((1.0, 1.0, 0.01, 50.0)))
    middle = draw(st.sampled_from((0.0, 0.0, 2.0, 40.0)))
    dead = draw(st.sampled_from((False, False, True)))
    batches = []
    for number, size in enumerate(sizes):
        x = torch.randn(size, channels, *sides) * scale + middle + number * scale
        if dead:
            x[:, 0] = middle
        batches.append(x)
    return batches


def tied(draw: Any, norms: list[nn.Module]) -> None:
    """Now and then, let two batch norms share one weight."""
    mates = [norm for norm in norms if norm.weight is not None]
    if len(mates) > 1 and draw(st.sampled_from((False, False, False, False, True))):
        first, second = mates[:2]
        if first.num_features == second.num_features:
            second.weight = first.weight


def disturbed(draw: Any, net: nn.Module) -> None:
    """Leave flags as no one would expect them."""
    net.train(draw(st.booleans()))
    modules, parameters = list(net.modules()), list(net.parameters())
    for module in draw(st.lists(st.sampled_from(modules), max_size=2)):
        module.training = not module.training
    for parameter in draw(st.lists(st.sampled_from(parameters), max_size=2)):
        parameter.requires_grad_(False)


@st.composite
def cases(draw: Any) -> Case:
    """Draw a network with batches to convert it on."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    rank, channels = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    # On CPUs, PyTorch's Conv3d in bfloat16 answers from memory that it never wrote (2.15).
    precision = draw(st.sampled_from(PRECISIONS if rank == 3 else (*PRECISIONS, *HALVES)))
    without_statistics = draw(st.sampled_from((False, False, False, True)))
    least = 2 if without_statistics else 0  # a layer without statistics refuses single values
    sizes = draw(st.lists(st.integers(least, 7), min_size=1, max_size=4).filter(any))
    maker = Maker(draw, rank, EPSILONS.get(precision, TINY_EPSILONS), without_statistics)
    net = maker.network(channels)
    tied(draw, maker.made)
    batches = [x.to(precision) for x in images(draw, rank, channels, [*sizes, 4])]
    net.to(precision)
    if rank in LAYOUTS and draw(st.booleans()):
        net.to(memory_format=LAYOUTS[rank])
        batches = [x.to(memory_format=LAYOUTS[rank]) for x in batches]
    disturbed(draw, net)
    return Case(
        net,
        batches[:-1],
        batches[-1],
        precision,
        pooling=draw(st.sampled_from(("exact", "exact", "exact", "batch"))),
        missing_affine=draw(st.sampled_from(("insert", "insert", "insert", "skip"))),
    )
