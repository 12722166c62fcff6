"""How long to train, and how steps are taken and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from adaptune.runtime.limits import MOST, SEEDS, check_range
from adaptune.types import Between, Group, Layout

AVERAGES = ("average", "average_decay", "average_from", "interpolate")
"""What decides which weights are validated, tested and saved; see `engine/averaging.py`."""


@dataclass(frozen=True)
class Plan:
    """How long to train and how steps are taken and kept; rates belong to the method.

    Args:
        epochs: Passes over the training data.
        momentum: Momentum of stochastic gradient descent.
        weight_decay: Weight decay, in the gradient.
        warmup: The share of the run in which rates rise, before they fall along a cosine to zero.
        clip: The largest norm of the gradient; by default it is not bounded.
        accumulate: Parts that a batch is cut into, whose gradients add up to one step; it takes
            less memory. Batch norms in train mode see one part at a time.
        layout: How images lie in memory: what a trial at the start finds faster, or what is given.
        compile: Let torch.compile make the network faster; it takes a C++ compiler.
        sync_batchnorm: Let batch norms see the batches of all processes as one.
        on_nonfinite: What to do when the loss or a gradient is not finite: stop the run, or skip
            the step and count it.
        checkpoint_minutes: How often what resuming needs is saved within an epoch, in minutes.
        seed: What decides every random number of the run.
        average: What is validated, tested and saved: the weights themselves, their exponential
            moving average over steps (ema), or their mean over the ends of epochs (swa).
        average_decay: The share of ema's average that a step leaves, once there were enough steps.
        average_from: The share of the run after which swa's epochs count; from there on the rate
            stays what it is.
        interpolate: How far what is validated, tested and saved lies on the line from the weights
            that training started from to those it came to, or their average (WiSE-FT).
    """

    epochs: int = 10
    momentum: float = 0.9
    weight_decay: Annotated[float, Between(1e-6, 1e-2)] = 0.0
    warmup: float = 0.0
    clip: float | None = None
    accumulate: int = 1
    layout: Layout = "auto"
    compile: bool = False
    sync_batchnorm: bool = True
    on_nonfinite: Literal["stop", "skip"] = "stop"
    checkpoint_minutes: float = 10.0
    seed: int = 0
    average: Literal["none", "ema", "swa"] = "none"
    average_decay: float = 0.999
    average_from: float = 0.5
    interpolate: float = 1.0

    def __post_init__(self) -> None:
        check_range("--epochs", self.epochs, 1, MOST)
        check_range("--momentum", self.momentum, 0, 1, below=True)
        check_range("--weight-decay", self.weight_decay, 0)
        check_range("--warmup", self.warmup, 0, 1, below=True)
        check_range("--clip", self.clip, 0, above=True)
        check_range("--accumulate", self.accumulate, 1, MOST)
        check_range("--checkpoint-minutes", self.checkpoint_minutes, 0)
        check_range("--seed", self.seed, *SEEDS)
        check_range("--average-decay", self.average_decay, 0, 1, below=True)
        check_range("--average-from", self.average_from, 0, 1)
        check_range("--interpolate", self.interpolate, 0, 1)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"Plan({told})"

    @property
    def averages(self) -> bool:
        """Whether other weights are validated, tested and saved than those that are trained."""
        return self.average != "none" or self.interpolate < 1

    def settings(self) -> dict[str, Any]:
        """Give what stands in configs: all fields, those of averages only where there is one.

        So runs and studies without one are told from others by the words that they were begun with.

        >>> "average" in Plan().settings(), Plan(interpolate=0.5).settings()["average"]
        (False, 'none')
        """
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        quiet = () if self.averages else AVERAGES
        return {name: value for name, value in own.items() if name not in quiet}

    def schedule(self, progress: float) -> float:
        """Give the share of the full rate at ``progress`` (0 to 1) of the run.

        >>> [round(Plan().schedule(p), 2) for p in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
        >>> Plan(warmup=0.5).schedule(0.25)
        0.5
        >>> [round(Plan(average="swa").schedule(p), 2) for p in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.5]
        """
        if self.average == "swa":
            progress = min(progress, max(self.average_from, self.warmup))
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))

    def rate(self, group: Group) -> float:
        """Give a group's full rate.

        With momentum m the effective rate is ``rate / (1 - m)``, and plain descent is stable up to
        ``2 / curvature``.

        >>> from torch import nn
        >>> round(Plan(momentum=0.9).rate(Group(nn.Identity(), rate=1.0, curvature=20.0)), 6)
        0.01
        """
        if group.curvature is None:
            return group.rate
        if not group.curvature > 0:
            raise ValueError("no rate fits training images that all look alike: give more of them")
        return group.rate * (1 - self.momentum) * 2 / group.curvature
