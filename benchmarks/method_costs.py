"""What a step of each method costs over one of ``ft``: ``python -m benchmarks.method_costs``.

EfficientNet-Lite0 with its weights, made images of 64 pixels in memory, batches of 32, one process
on one thread. A method is stepped on what it needs: a batch of each side, so one that learns from a
target too sees 64 images. Its steps and those of ``ft``, on the labelled images or on masks where a
method labels every place alone, are timed in turn, round by round. What it does before the first
step, or before an epoch, does not count. With names of methods all other rows stay as they were.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.engine.descent import Descent
from adaptune.engine.method import (
    Method,
    hyperparameters,
    refuse_head,
    task_kind,
    teachers_of,
)
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Labeled, Needs, Split, Unlabeled, empty_unlabeled

RESULTS = Path(__file__).parent / "results" / "method-costs.json"
CLASSES, PIXELS, ROWS, STEPS, ROUNDS = 10, 64, 32, 2, 5
NAMES = tuple(map(str, range(CLASSES)))
RATE = 1e-4
"""So low that random labels move nothing far."""

HALF, MANY = 0.5, 1000
"""How far training is, and of how many steps: so what grows in its course counts."""

OPTIONS: dict[str, dict[str, Any]] = {"alpha-bn": {"alpha": 0.5}, "gprn": {"regions": "grid"}}
"""What a method cannot do without here: a value that it has to be told, a package less."""


@dataclass(frozen=True)
class Made:
    """Images of as many labelled domains as are asked for, and of a target; epochs are alike."""

    places: bool
    domains: int

    def batches(self, needs: Needs, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Give the batches from number ``start`` on, of what is needed."""
        del epoch
        for number in range(start, STEPS):
            ours, theirs = self.labeled(number), self.of_target(number, needs.views)
            yield Batch(
                ours if needs.labeled else _no_rows(ours),
                theirs if needs.unlabeled else empty_unlabeled(),
                progress=HALF,
            )

    def steps(self, needs: Needs) -> int:
        """Count the batches."""
        del needs
        return STEPS

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterator[Labeled]:
        """Give the same rows for every split."""
        del split, shuffled
        return map(self.labeled, range(STEPS))

    def unlabeled(self, *, shuffled: bool = False) -> Iterator[Unlabeled]:
        """Give the target."""
        del shuffled
        return map(self.of_target, range(STEPS))

    def query_labels(self, index: Tensor) -> Tensor:
        """Answer with any label."""
        return index % CLASSES

    def labeled(self, number: int) -> Labeled:
        """Give the labelled rows of a batch."""
        at = torch.arange(ROWS)
        y = torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(number))
        if self.places:
            y = y[:, None, None].expand(-1, PIXELS, PIXELS).to(torch.uint8)
        return Labeled(drawn(number), at % self.domains, at + number * ROWS, y=y)

    def of_target(self, number: int, views: int = 0) -> Unlabeled:
        """Give the rows of a batch of the target."""
        at = torch.arange(ROWS)
        x, *seen = (drawn(100 + number + 1000 * view) for view in range(views + 1))
        return Unlabeled(x, torch.full_like(at, self.domains), at + number * ROWS, tuple(seen))


def drawn(seed: int) -> Tensor:
    """Draw images, smooth as pictures are."""
    coarse = torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    x = F.interpolate(2 * coarse, (PIXELS, PIXELS), mode="bicubic")
    return x.contiguous(memory_format=torch.channels_last)


def _no_rows(rows: Labeled) -> Labeled:
    return Labeled(rows.x[:0], rows.domain[:0], rows.index[:0], y=rows.y[:0])


def network(*, places: bool) -> Network:
    """Give the network that a method begins with, its head at random."""
    setting = Setup(task="segmentation" if places else "classification", image_size=PIXELS)
    return setting.network(NAMES)


def made(name: str, *, places: bool) -> tuple[Method, Made]:
    """Make a method as a user does, and what it learns from."""
    kind = METHODS[name]
    if task_kind(kind) is Matching:
        raise ValueError("it learns from pairs, and these images have no partners")
    needs, options = kind.needs, dict(OPTIONS.get(name, {}))
    if "lr" in hyperparameters(kind):
        options["lr"] = RATE
    task = (Segmentation if places else Classification)(CLASSES, domains=needs.domains)
    net, takes = network(places=places), teachers_of(kind)
    refuse_head(kind, net)
    others = [] if takes == "none" else [network(places=places) for _ in range(2)]
    teachers: list[Any] = [Reference(one, net.preprocess) for one in others]
    given = {"none": [], "one": teachers[:1], "several": [tuple(teachers)]}[takes]
    build: Callable[..., Method] = kind
    return build(net, task, *given, **options), Made(places, needs.domains)


def turns(name: str, *, places: bool) -> Iterator[None]:
    """Take the steps of a method, so many a turn; what comes before them is done at the start.

    Raises:
        ValueError: If it takes none.
    """
    method, data = made(name, places=places)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan, needs = Plan(layout="channels_last"), method.needs
    if method.setting == "test-time":
        rows = (batch.unlabeled for _ in itertools.count() for batch in data.batches(needs))
        answers = stream(method, rows, plan)
        while True:
            for _ in range(STEPS):
                next(answers)
            yield
    method.prepare(data)
    if not method.groups():
        raise ValueError("it is done before the first step")
    method.refresh(data)
    batches = list(data.batches(needs))
    descent = Descent(method, plan, Fabric(accelerator="cpu", devices=1))
    method.train()
    while True:
        for batch in batches:
            descent.at(batch.progress, rows=ROWS, steps=MANY)
            method.step(batch, descent)
        yield


def compared(name: str, beside: Iterator[None], *, places: bool) -> dict[str, Any]:
    """Time turns of a method and of ``ft`` in turn; the first pair warms up."""
    own = turns(name, places=places)
    seconds: list[list[float]] = [[], []]
    for number in range(ROUNDS + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            next((own, beside)[which])
            seconds[which].append((time.perf_counter() - began) / STEPS)
    ratios = [a / b for a, b in zip(*(one[1:] for one in seconds), strict=True)]
    return {
        "method": name,
        "setting": METHODS[name].setting,
        "on": "masks" if places else "images",
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "seconds": median(seconds[0][1:]),
        "ft": median(seconds[1][1:]),
    }


def measured(names: list[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Give a row for each method that takes steps, and of the others why they do not."""
    rows, left = [], {}
    beside = {}
    for name in names:
        places = not issubclass(Classification, task_kind(METHODS[name]))
        if places not in beside:
            beside[places] = turns("ft", places=places)
        torch.manual_seed(0)
        try:
            row = compared(name, beside[places], places=places)
        except (ValueError, RuntimeError, FloatingPointError) as error:
            left[name] = str(error).splitlines()[0]
            print(f"{name}: {left[name]}", flush=True)
            continue
        span = f"({row['low']:.2f} to {row['high']:.2f})"
        print(f"{row['ratio']:6.2f} {span}  {name}", flush=True)
        rows.append(row)
    return rows, left


def main(names: list[str]) -> None:
    """Measure all methods, or those that are named, and write it."""
    torch.set_num_threads(1)
    known = json.loads(RESULTS.read_text()) if names else {"rows": [], "left out": {}}
    rows, left = measured(names or list(METHODS))
    new = {row["method"] for row in rows} | left.keys()
    rows += [row for row in known["rows"] if row["method"] not in new]
    left |= {name: why for name, why in known["left out"].items() if name not in new}
    order = list(METHODS)
    found = {
        "about": __doc__,
        "rounds": ROUNDS,
        "rows": sorted(rows, key=lambda row: order.index(row["method"])),
        "left out": left,
        "machine": describe_machine(),
    }
    write_text(RESULTS, json.dumps(to_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
