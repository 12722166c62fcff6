"""How far rounding errors move a network: what a test of conversion has to forgive."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, list[Tensor]]

TRIES = 3
"""How often a network is run with random rounding errors."""


@contextmanager
def looking(net: nn.Module, look: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Call ``look(name, input)`` before every leaf; what it returns takes the input's place."""

    def hook(name: str) -> Callable[..., Any]:
        return lambda _, args: look(name, args[0])

    leaves = [(name, one) for name, one in net.named_modules() if not list(one.children())]
    hooks = [leaf.register_forward_pre_hook(hook(name)) for name, leaf in leaves]
    with torch.no_grad():
        yield
    for one in hooks:
        one.remove()


def inputs_of(net: nn.Module, batches: Iterable[Tensor]) -> Inputs:
    """Collect what every leaf is given, call by call."""
    seen: Inputs = defaultdict(list)
    with looking(net, lambda name, x: seen[name].append(x.clone())):
        for x in batches:
            net(x)
    return seen


def rows(x: Tensor) -> Tensor:
    """Give the values of every channel, (channels, values)."""
    return x.double().transpose(0, 1).flatten(1)


def largest(xs: list[Tensor]) -> Tensor:
    """Give the largest absolute value of every channel."""
    return torch.cat([rows(x) for x in xs], 1).abs().amax(1)


class Rounding:
    """How far rounding moves a network's answers and its layers' inputs.

    The network runs in float64 while every weight, every statistic and every input of a layer is
    moved at random by the resolution of its own precision: inputs by that of their channel's
    largest value, because a layer's old and new mean are as large. Where a network magnifies such
    errors, by channels of tiny variance for one, its answers have no more digits than this says.
    """

    def __init__(self, net: nn.Module, batches: list[Tensor], precision: torch.dtype) -> None:
        self.net, self.resolution = copy.deepcopy(net).double(), torch.finfo(precision).eps
        self.batches = [x.double() for x in batches if len(x)]
        clean: Inputs = defaultdict(list)
        with looking(self.net, lambda name, x: clean[name].append(x.clone())):
            answers = [self.net(x) for x in self.batches]
        self.scales = {name: largest(xs) for name, xs in clean.items()}
        self.inputs = {name: self.resolution * scale for name, scale in self.scales.items()}
        self.answers = self.resolution * max(float(y.abs().max()) for y in answers)
        exact = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
        for _ in range(TRIES):
            noisy, moved = self._run(exact)
            for name, xs in clean.items():
                gap = largest([a - b for a, b in zip(xs, noisy[name], strict=True)])
                self.inputs[name] = torch.maximum(self.inputs[name], gap)
            gaps = [float((a - b).abs().max()) for a, b in zip(answers, moved, strict=True)]
            self.answers = max(self.answers, *gaps)

    def _run(self, exact: dict[str, Tensor]) -> tuple[Inputs, list[Tensor]]:
        noisy: Inputs = defaultdict(list)
        for name, tensor in self.net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(exact[name] + self._error(exact[name]))

        def look(name: str, x: Tensor) -> Tensor:
            noisy[name].append(x.clone())
            return x + self._error(self.scales[name].view(-1, *[1] * (x.dim() - 2)).expand_as(x))

        with looking(self.net, look):
            return noisy, [self.net(x) for x in self.batches]

    def _error(self, size: Tensor) -> Tensor:
        return self.resolution * size * (2 * torch.rand(size.shape, dtype=size.dtype) - 1)
