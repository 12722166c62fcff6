"""What a step of `fit` costs beside a bare loop: ``python -m benchmarks.step_speed``.

EfficientNet-Lite0 with its weights, random images of 64 pixels in memory, batches of 64. What is
timed is `fit` itself, from the end of one epoch to the end of the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.runs.setup import Setup
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Needs, Split

Optimizer = Literal["sgd", "adamw"]

CLASSES, PIXELS, ROWS, STEPS = 10, 64, 64, 4
RATE = 1e-4
"""So low that random labels move nothing far."""

PAIRS: dict[str, tuple[Callable[..., Method], torch.memory_format, Optimizer]] = {
    "ft step / bare loop": (FineTune, torch.channels_last, "sgd"),
    "ft step / bare loop, AdamW": (FineTune, torch.channels_last, "adamw"),
    "daft step / bare loop": (DAFT, torch.channels_last, "sgd"),
    "fit / bare loop in torch's layout": (DAFT, torch.contiguous_format, "sgd"),
}
"""What is compared: a method, trained with the defaults of `fit`, and the bare loop's layout."""


@dataclass(frozen=True)
class Fixed:
    """The same batches every epoch."""

    rows: list[Labeled]

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches from number ``start`` on."""
        del needs, epoch
        return (Batch(rows) for rows in self.rows[start:])

    def scan(self, split: Split, *, shuffled: bool = False) -> list[Labeled]:
        """Give the same rows for every split."""
        del split, shuffled
        return self.rows

    def steps(self, needs: Needs) -> int:
        """Count the batches."""
        del needs
        return len(self.rows)


def images(rows: int = ROWS) -> Fixed:
    """Draw the batches."""
    random = torch.Generator().manual_seed(0)
    index = torch.arange(rows)
    return Fixed(
        [
            Labeled(
                torch.randn(rows, 3, PIXELS, PIXELS, generator=random),
                torch.zeros_like(index),
                index,
                y=torch.randint(CLASSES, (rows,), generator=random),
            )
            for _ in range(STEPS)
        ]
    )


def measured(pairs: int = 5) -> dict[str, dict[str, float]]:
    """Time epochs of `fit` and of a bare loop in turn, ``pairs`` times after one for warmth.

    ``ratio`` is the median of the pairs' ratios, ``low`` and ``high`` their ends; ``ours`` and
    ``bare`` are medians of seconds a step.
    """
    return {name: _compared(*pair, pairs) for name, pair in PAIRS.items()}


def _compared(
    method: Callable[..., Method], layout: torch.memory_format, optimizer: Optimizer, pairs: int
) -> dict[str, float]:
    torch.manual_seed(0)
    data = images()
    net = Setup(image_size=PIXELS).network(tuple(map(str, range(CLASSES))))
    made = method(net, Classification(CLASSES), lr=RATE)
    epochs = fit(made, data, Plan(epochs=pairs + 2, optimizer=optimizer))
    next(epochs)
    bare = bare_loop(deepcopy(made.net), data, layout, optimizer)
    return in_turn(epochs, bare, pairs, steps=STEPS)


def in_turn(
    epochs: Iterator[Any], bare: Iterator[Any], pairs: int, *, steps: int
) -> dict[str, float]:
    """Time an epoch of so many steps of each in turn; the first pair warms up."""
    ours: list[float] = []
    theirs: list[float] = []
    for pair in range(pairs + 1):
        turns: list[tuple[list[float], Iterator[Any]]] = [(ours, epochs), (theirs, bare)]
        for seconds, turn in turns if pair % 2 else reversed(turns):
            began = time.perf_counter()
            next(turn)
            seconds.append((time.perf_counter() - began) / steps)
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return {
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours": median(ours[1:]),
        "bare": median(theirs[1:]),
    }


def bare_loop(
    net: nn.Module, data: Fixed, layout: torch.memory_format, kind: Optimizer
) -> Iterator[Tensor]:
    """Train with nothing but torch, one epoch at a time, on batches that have the layout."""
    net.to(memory_format=layout).train()  # type: ignore[call-overload]
    batches = [(rows.x.contiguous(memory_format=layout), rows.y) for rows in data.rows]
    optimizer: torch.optim.Optimizer
    if kind == "adamw":
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    while True:
        for x, y in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        yield loss.detach()


if __name__ == "__main__":
    print(json.dumps(measured(), indent=1))
