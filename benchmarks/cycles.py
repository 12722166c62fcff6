"""Streams in which one domain comes after another, again and again, and what becomes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from adaptune.commands.open_data import task_of
from adaptune.data.loading import RowSource
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.engine.visits import Visit, batches_of, forgetting, visits_of
from adaptune.methods import METHODS
from adaptune.metrics.window import AnswerWindow
from adaptune.networks.network import Network
from adaptune.types import Unlabeled
from benchmarks.streaming import Meeting, tensors_of

Legs = Mapping[str, tuple[Tensor, Tensor, Tensor]]
"""By domain its images and labels, and the logits of the network that stays."""


@dataclass(frozen=True)
class Cycle(Meeting):
    """A network, and images that come under each corruption, then as each of ``vendors`` draws."""

    vendors: Mapping[str, RowSource] = field(default_factory=dict)
    cycles: int = 1

    def said(self) -> dict[str, Any]:
        """Give what decides the results."""
        return super().said() | {"vendors": list(self.vendors), "cycles": self.cycles}

    def rows(self, net: Network) -> Iterator[dict[str, Any]]:
        """Score each variant on the whole of the stream, and say how it went."""
        net.eval()
        legs = {}
        for name, images in itertools.chain(self.streams(), self.vendors.items()):
            x, y = tensors_of(net, images, self.seed)
            with torch.no_grad():
                legs[name] = (x, y, torch.cat([net(part) for part in x.split(64)]))
        for batch, (variant, said) in itertools.product(self.batches, self.variants.items()):
            course = gone(net, said, legs, cycles=self.cycles, batch=batch, seed=self.seed)
            yield {
                "pair": self.place,
                "place": self.place,
                "method": variant,
                "seed": self.seed,
                "batch": batch,
                "measure": "accuracy",
                "value": mean(course["cycles"]),
                "course": course,
            }


def gone(
    net: Network, said: Mapping[str, Any], legs: Legs, *, cycles: int, batch: int, seed: int
) -> dict[str, Any]:
    """Say how one way of adapting went: by cycle and domain, what was forgotten, and collapses."""
    options = {key: value for key, value in said.items() if key != "method"}
    method = METHODS[said["method"]](deepcopy(net), task_of(net), **options)
    visits = visits_of({name: len(x) for name, (x, _, _) in legs.items()}, cycles)
    size = min(200, visits[-1].rows.stop // 4)
    window, right = AnswerWindow(len(net.classes), size), list[tuple[Visit, int]]()
    coming = ((one, part) for one in visits for part in batches_of([one], batch))
    asked = list[tuple[Visit, Tensor]]()

    def rows() -> Iterator[Unlabeled]:
        for one, part in coming:
            at = torch.tensor(part)
            asked.append((one, at - one.rows.start))
            yield Unlabeled(legs[one.domain][0][asked[-1][1]], torch.zeros_like(at), at)

    for answer in stream(method, rows(), Plan(seed=seed, layout="channels_last")):
        one, own = asked.pop()
        _, y, still = legs[one.domain]
        window.take(answer.logits, still[own])
        right.append((one, int((answer.logits.argmax(1) == y[own]).sum())))
    reached = [
        100 * sum(count for visit, count in right if visit == one) / len(one.rows) for one in visits
    ]
    lost = forgetting(visits, reached)
    return {
        "cycles": [
            mean(value for one, value in zip(visits, reached, strict=True) if one.cycle == number)
            for number in range(1, cycles + 1)
        ],
        "domains": {
            name: [v for one, v in zip(visits, reached, strict=True) if one.domain == name]
            for name in legs
        },
        "forgotten": mean(lost.values()) if lost else 0.0,
        "collapsed": window.collapsed_rows / visits[-1].rows.stop,
    }
