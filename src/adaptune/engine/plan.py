"""How long to train, and how steps are taken and kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from adaptune.runtime.limits import MOST, SEEDS, check_range
from adaptune.types import Between, Group, Layout

AVERAGES = ("average", "average_decay", "average_from", "interpolate")
"""What decides which weights are validated, tested and saved; see `engine/averaging.py`."""

POWER = ("power_a", "power_b", "cooldown")
"""What the power schedule alone looks at."""

USUAL = {"sgd": 1.0, "adamw": 0.01}
"""What a method's default rates, and their ranges, are times; signatures give those of SGD.

A rate that is told is taken as it is. See `usual_rates`.
"""


@dataclass(frozen=True)
class Plan:
    """How long to train and how steps are taken and kept; rates belong to the method.

    Args:
        epochs: Passes over the training data; with 0 the network is tested as a method begins.
        momentum: Momentum of stochastic gradient descent; AdamW's first beta.
        weight_decay: Weight decay: SGD's in the gradient, of all that learns; AdamW's beside it, of
            no norm, no bias and nothing that the network's library leaves out.
        warmup: The share of the run in which rates rise, before they follow the schedule.
        clip: The largest norm of the gradient; by default it is not bounded.
        accumulate: Parts that a batch is cut into, whose gradients add up to one step; it takes
            less memory. Batch norms in train mode see one part at a time.
        layout: How images lie in memory: what a trial at the start finds faster, or what is given.
        compile: Let torch.compile make the network faster; it takes a C++ compiler.
        shard: Let each process keep a part of the weights, of their gradients and of the
            optimiser's moments, for networks that do not fit on one device with these.
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
        optimizer: What takes the steps: sgd with momentum, or adamw, for which a hundredth of a
            method's rate is the default.
        layer_decay: What the rate of each layer of the body is times that of the layer above it, by
            timm's groups of layers; 1 is off.
        schedule: How rates go after the warm-up: to zero along a cosine, or linear, or by a power
            of the images seen, or constant.
        power_a: The power schedule's a, in multiples of a method's rate: of that rate it is the
            share ``batch size * a * images ** b``, at most 1.
        power_b: The power schedule's b.
        cooldown: The last share of the run, in which the power schedule falls straight to zero.
    """

    epochs: int = 10
    momentum: float = 0.9
    weight_decay: Annotated[float, Between(1e-6, 1e-2)] = 0.0
    warmup: float = 0.0
    clip: float | None = None
    accumulate: int = 1
    layout: Layout = "auto"
    compile: bool = False
    shard: bool = False
    sync_batchnorm: bool = True
    on_nonfinite: Literal["stop", "skip"] = "stop"
    checkpoint_minutes: float = 10.0
    seed: int = 0
    average: Literal["none", "ema", "swa"] = "none"
    average_decay: float = 0.999
    average_from: float = 0.5
    interpolate: float = 1.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    layer_decay: Annotated[float, Between(0.5, 1.0)] = 1.0
    schedule: Literal["cosine", "power", "constant", "linear"] = "cosine"
    power_a: float = 1.0
    power_b: float = -0.51
    cooldown: float = 0.1

    def __post_init__(self) -> None:
        check_range("--epochs", self.epochs, 0, MOST)
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
        check_range("--layer-decay", self.layer_decay, 0, 1, above=True)
        check_range("--power-a", self.power_a, 0, above=True)
        check_range("--power-b", self.power_b, -1, 0)
        check_range("--cooldown", self.cooldown, 0, 1)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"Plan({told})"

    @property
    def averages(self) -> bool:
        """Whether other weights are validated, tested and saved than those that are trained."""
        return self.average != "none" or self.interpolate < 1

    def settings(self) -> dict[str, Any]:
        """Give what stands in configs: all fields, those of later versions only where they count.

        So runs and studies without them are told from others by the words that they were begun
        with.

        >>> "average" in Plan().settings(), Plan(interpolate=0.5).settings()["average"]
        (False, 'none')
        >>> sorted(Plan(optimizer="adamw").settings().keys() - Plan().settings().keys())
        ['optimizer']
        """
        quiet = {
            name
            for name in ("optimizer", "layer_decay", "schedule", "shard")
            if self._is_usual(name)
        }
        quiet |= set() if self.averages else set(AVERAGES)
        quiet |= set() if self.schedule == "power" else set(POWER)
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in own.items() if name not in quiet}

    def _is_usual(self, name: str) -> bool:
        return bool(getattr(self, name) == getattr(type(self), name))

    def share(self, progress: float, *, batch: int = 1, images: float = 1.0) -> float:
        """Give the share of the full rate at ``progress`` (0 to 1) of the run.

        The power schedule alone asks how large a ``batch`` is and how many ``images`` the run sees.

        >>> [round(Plan().share(p), 2) for p in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
        >>> Plan(warmup=0.5).share(0.25)
        0.5
        >>> [round(Plan(average="swa").share(p), 2) for p in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.5]
        >>> [Plan(schedule="linear", warmup=0.5).share(p) for p in (0.25, 0.75)]
        [0.5, 0.5]
        >>> power = Plan(schedule="power", power_b=-0.5)
        >>> [round(power.share(p, batch=32, images=1e5), 3) for p in (0.0, 0.5, 0.95, 1.0)]
        [1.0, 0.143, 0.053, 0.0]
        """
        if self.average == "swa":
            progress = min(progress, max(self.average_from, self.warmup))
        if progress < self.warmup:
            return progress / self.warmup * self._after_warmup(self.warmup, batch, images)
        return self._after_warmup(progress, batch, images)

    def _after_warmup(self, progress: float, batch: int, images: float) -> float:
        after, whole = progress - self.warmup, 1 - self.warmup
        match self.schedule:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * after / whole))
            case "linear":
                return 1 - after / whole
            case "constant":
                return 1.0
            case "power":
                flat = 1 - self.cooldown
                seen = batch + min(progress, flat) * images
                falls = (1 - progress) / self.cooldown if progress > flat else 1.0
                return falls * power_share(seen, batch, self.power_a, self.power_b)

    def rate(self, group: Group) -> float:
        """Give a group's full rate.

        With momentum m the effective rate is ``rate / (1 - m)``, and plain descent is stable up to
        ``2 / curvature``. Of AdamW no such rate is known: it divides each step by the gradients'
        own size, so neither a curvature nor a shorter gradient bounds what it does.

        Raises:
            ValueError: If a rate that is told by a curvature cannot be had.

        >>> from torch import nn
        >>> round(Plan(momentum=0.9).rate(Group(nn.Identity(), rate=1.0, curvature=20.0)), 6)
        0.01
        """
        if self.optimizer == "adamw" and not (group.curvature is None and group.trust == math.inf):
            raise ValueError(
                "a conditioned head learns at a rate that is derived for SGD, and of AdamW none "
                "is known: give --head published or one-rate and an --lr of AdamW, or leave out "
                "--optimizer"
            )
        if group.curvature is None:
            return group.rate
        if not group.curvature > 0:
            raise ValueError("no rate fits training images that all look alike: give more of them")
        return group.rate * (1 - self.momentum) * 2 / group.curvature


def power_share(images: float, batch: int, a: float, b: float) -> float:
    """Give the power schedule's share of the full rate after so many images.

    With the full rate r it is the paper's min(r, batch * (a r) * images^b), over r: so a is the
    paper's in multiples of r, and counts images where the paper counts tokens. Its prefix is the
    same however long a run is. Source: Power Scheduler (Shen et al., 2024).

    >>> power_share(100, 4, 1.0, -0.5), power_share(10_000, 4, 1.0, -0.5)
    (0.4, 0.04)
    """
    return float(min(1.0, batch * a * images**b))
