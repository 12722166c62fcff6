"""How time and memory grow with the data: ``python -m benchmarks.growth [WHAT ...]``.

One thing is varied at a time: images, channels, classes or values of C. Every point is a process of
its own on one thread; its memory is what its peak lies above its start, inputs left out. Growth is
the slope in logarithms over the upper half of the sizes: 1 is linear. With names of what to
measure, all other rows stay as they were. Of two processes the larger costs count.
"""

from __future__ import annotations

import ctypes
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch
from torch import Tensor, nn

from adaptune import (
    Classification,
    Network,
    Plan,
    convert_batchnorm,
    evaluate,
    feature_distortion,
    fit,
)
from adaptune.engine.evaluate import sample_outputs
from adaptune.methods.supervised.daft import DAFT
from adaptune.ops.probe import linear_probe, penalties
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.runtime.processes import rank_and_world
from adaptune.selection import Evidence, label_free
from adaptune.types import Batch, Labeled, Needs, Outputs, Split

RESULTS = Path(__file__).parent / "results" / "growth.json"
PIXELS, ROWS = 8, 100
FASTER = 1.15
"""From this exponent on, growth counts as faster than linear."""

SEEN = 8.0
"""Megabytes below which a process's memory says nothing."""

IMAGES = (100, 1000, 3000, 10_000, 30_000, 100_000)
CHANNELS = (8, 32, 128, 512, 1024)
CLASSES = (2, 8, 32, 128, 256)
MANY = 1000
"""Classes of which all outputs of a large set would not fit."""

VALUES = (2, 6, 12, 25, 50)


@dataclass(frozen=True)
class Size:
    """How large a problem is."""

    images: int = 2000
    channels: int = 64
    classes: int = 10
    values: int = 10


@dataclass(frozen=True)
class Same:
    """As many images as are asked for, in batches that hold the same pixels over and over."""

    size: Size

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterator[Labeled]:
        """Give the rows of any split; of several processes each gets its share."""
        del split, shuffled
        rank, world = rank_and_world()
        x = torch.randn(ROWS, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
        for start in range(rank * ROWS, self.size.images, world * ROWS):
            index = torch.arange(start, start + ROWS)
            yield Labeled(x, torch.zeros_like(index), index, y=index % self.size.classes)

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch."""
        del needs, epoch, start
        return map(Batch, self.scan("train"))

    def steps(self, needs: Needs) -> int:
        """Count the batches."""
        del needs
        return self.size.images // ROWS


def network(size: Size) -> Network:
    """Give a network whose work is proportional to its channels."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, size.channels, 1),
        nn.BatchNorm2d(size.channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(size.channels, size.classes),
    )
    return Network.from_module(module, head="5", classes=list(map(str, range(size.classes))))


def features(size: Size, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Give features about the centres of their classes, and the classes."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(size.images) % size.classes
    centres = torch.randn(size.classes, size.channels, generator=random)
    return torch.randn(size.images, size.channels, generator=random).add_(centres[y], alpha=0.5), y


def conversion(size: Size) -> Callable[[], object]:
    """Convert a network's batch norms."""
    body = network(size).body
    return lambda: convert_batchnorm(body, (rows.x for rows in Same(size).scan("train")))


def probe(size: Size) -> Callable[[], object]:
    """Solve a linear probe."""
    rows = *features(size), *features(replace(size, images=500), seed=1)
    cs = penalties(size.values)
    return lambda: linear_probe(*rows, classes=size.classes, cs=cs)


def epoch(size: Size) -> Callable[[], object]:
    """Train for one epoch by DAFT, its preparation included."""
    method = DAFT(network(size), Classification(size.classes))
    return lambda: list(fit(method, Same(size), Plan(epochs=1)))


def evaluation(size: Size) -> Callable[[], object]:
    """Evaluate a network, and compare its features with another's."""
    net, task = network(size), Classification(size.classes)
    before = sample_outputs(net, Same(size).scan("test")).features

    def work() -> None:
        found = evaluate(net, Same(size).scan("test"), task)
        feature_distortion(before, found.sample.features)

    return work


def tallying(size: Size) -> Callable[[], object]:
    """Evaluate a network of many classes."""
    size = replace(size, classes=MANY)
    net, task = network(size), Classification(MANY)
    return lambda: evaluate(net, Same(size).scan("test"), task)


def scores(size: Size) -> Callable[[], object]:
    """Work out all label-free scores, with as many source images as target images."""
    (source, _), (target, _) = features(size), features(size, seed=1)
    val_x, val_y = features(replace(size, images=500), seed=2)
    weight = torch.randn(size.classes, size.channels, generator=torch.Generator().manual_seed(3))
    val = Outputs(val_x @ weight.T, val_y, val_x, torch.arange(500))
    return lambda: label_free(Evidence(target @ weight.T, target, weight, val, source))


WORK: dict[str, tuple[Callable[[Size], Callable[[], object]], dict[str, tuple[int, ...]]]] = {
    "convert_batchnorm": (conversion, {"images": IMAGES, "channels": CHANNELS}),
    "linear_probe": (
        probe,
        {"images": IMAGES, "channels": CHANNELS, "classes": CLASSES, "values": VALUES},
    ),
    "fit, one epoch of daft": (
        epoch,
        {"images": IMAGES, "channels": CHANNELS, "classes": CLASSES},
    ),
    "evaluate and feature_distortion": (
        evaluation,
        {"images": IMAGES, "channels": CHANNELS, "classes": CLASSES},
    ),
    "evaluate, 1,000 classes": (tallying, {"images": IMAGES}),
    "evaluate, 1,000 classes, two processes": (tallying, {"images": IMAGES}),
    "label-free scores": (scores, {"images": IMAGES, "channels": CHANNELS, "classes": CLASSES}),
}
TWO = "two processes"
"""What ends the name of work that two processes do together."""


def measured(names: list[str]) -> list[dict[str, Any]]:
    """Measure some kinds of growth."""
    rows = []
    for name in names:
        make, axes = WORK[name]
        for axis, sizes in axes.items():
            world = 2 if name.endswith(TWO) else 1
            points = [apart(make, replace(Size(), **{axis: size}), world) for size in sizes]
            seconds, megabytes = map(list, zip(*points, strict=True))
            row = {"what": name, "by": axis, "sizes": sizes}
            row |= {"seconds": seconds, "megabytes": megabytes}
            row |= {"time": exponent(sizes, seconds), "memory": exponent(sizes, megabytes, SEEN)}
            row["faster"] = [key for key in ("time", "memory") if row[key] > FASTER]
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def apart(
    make: Callable[[Size], Callable[[], object]], size: Size, world: int = 1
) -> tuple[float, float]:
    """Give seconds and megabytes of work in a process of its own, or in several that meet."""
    fork = multiprocessing.get_context("fork")  # it starts with all modules imported
    told = []
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(world):
            here, there = fork.Pipe(duplex=False)
            meeting = (f"file://{folder}/meeting", rank, world)
            process = fork.Process(target=worked, args=(make, size, there, meeting))
            process.start()
            there.close()
            started.append((process, here))
        for process, here in started:
            told.append(here.recv())
            process.join()
    seconds, megabytes = zip(*told, strict=True)
    return max(seconds), max(megabytes)


def worked(
    make: Callable[[Size], Callable[[], object]],
    size: Size,
    tell: Connection,
    meeting: tuple[str, int, int],
) -> None:
    """Do the work once small, for what the first call sets up, and once timed; tell the costs."""
    torch.set_num_threads(1)
    place, rank, world = meeting
    if world > 1:
        torch.distributed.init_process_group("gloo", place, rank=rank, world_size=world)
    make(replace(size, images=world * ROWS))()
    work = make(size)
    ctypes.CDLL(None).malloc_trim(0)  # what is free now must not hide what the work takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, at what is held now
    before, began = peak(), time.perf_counter()
    work()
    tell.send((time.perf_counter() - began, peak() - before))


def peak() -> float:
    """Give the most megabytes that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def exponent(sizes: tuple[int, ...], costs: list[float], least: float = 0.0) -> float:
    """Give the slope in logarithms over the upper half; 0 where costs stay at or below ``least``.

    >>> round(exponent((1, 2, 4, 8), [9.0, 4.0, 16.0, 64.0]), 3)
    2.0
    """
    half = len(sizes) // 2
    upper = [(math.log(s), math.log(c)) for s, c in zip(sizes, costs, strict=True) if c > least]
    upper = [point for point in upper if point[0] >= math.log(sizes[half - 1])]
    if len(upper) < 2:
        return 0.0
    return linear_regression(*zip(*upper, strict=True)).slope


def main(names: list[str]) -> None:
    """Measure everything, or what is named: then the other rows stay, and say on which machine."""
    machine = describe_machine()
    known = json.loads(RESULTS.read_text()) if names else {"rows": [], "machine": machine}
    more = measured(names or list(WORK))
    if machine != known["machine"]:
        more = [row | {"machine": machine} for row in more]
    rows = [row for row in known["rows"] if row["what"] not in names] + more
    found = {
        "about": __doc__,
        "base": vars(Size()),
        "rows": sorted(rows, key=lambda row: list(WORK).index(row["what"])),
        "machine": known["machine"],
    }
    write_text(RESULTS, json.dumps(to_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
