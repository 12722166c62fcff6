"""What scoring masks at their own size costs: ``python -m benchmarks.own_size``.

`evaluate` of made images of 1024 x 2048 pixels with 19 classes, seen by a ResNet-50 as squares of
``--side`` pixels, beside the network's forward passes over the same batches of ``--rows`` images,
on one thread. Both are timed in turn, batch by batch; each one's peak memory is that of a process
of its own. What is true is what the network says, moved by a few pixels, so that boundaries are
about as many and as near as those of a network that has learnt.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning_fabric import Fabric

from adaptune.data.labels.mask_table import IGNORE
from adaptune.engine.evaluate import evaluate, logits_of
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.ops.places import best_classes
from adaptune.ops.windows import WHOLE, bands
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Labeled
from benchmarks.growth import peak

RESULTS = Path(__file__).parent / "results" / "own-size.json"
CLASSES, SIZE = 19, (1024, 2048)
MOVED = 6
"""Pixels by which what is true lies beside what the network says."""


def network(side: int) -> Network:
    """Give a network of random weights, whose batch norms fit its inputs."""
    torch.manual_seed(0)
    names = tuple(map(str, range(CLASSES)))
    net = open_backbone("resnet50", names, weights="none", size=side, stride=8)
    with torch.no_grad():
        net.train()(torch.randn(2, 3, 128, 128))
    return net.eval()


def batch(net: Network, rows: int) -> Labeled:
    """Make images, smooth as photos are, and masks near what the network says of them."""
    side, none = net.preprocess.size, torch.zeros(rows, dtype=torch.int64)
    coarse = torch.randn(rows, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.interpolate(2 * coarse, (side, side), mode="bicubic")
    y = torch.full((rows, *SIZE), IGNORE, dtype=torch.uint8)
    fabric = Fabric(accelerator="cpu", devices=1)
    for row in range(rows):
        one = Labeled(x[row : row + 1], none[:1], none[:1], y=y[:1])
        for down, across, logits in bands(logits_of(net, one, fabric)[0], SIZE, WHOLE):
            y[row, down, across] = best_classes(logits)[1]
    y = y.roll((MOVED, MOVED), (1, 2))
    y[:, -SIZE[0] // 10 :] = IGNORE
    return Labeled(x, none, torch.arange(rows), y=y)


def batches(one: Labeled, images: int) -> Iterator[Labeled]:
    """Give a batch over and over, as other rows."""
    for start in range(0, images, len(one)):
        yield Labeled(one.x, one.domain, one.index + start, y=one.y)


def passes(net: Network, one: Labeled, images: int) -> None:
    """Run the network over as many images."""
    with torch.no_grad():
        for rows in batches(one, images):
            net(rows.x.contiguous(memory_format=torch.channels_last))


def scored(net: Network, one: Labeled, images: int) -> None:
    """Evaluate the network on as many images."""
    evaluate(net, batches(one, images), Segmentation(CLASSES))


def peaks(side: int, rows: int, counts: tuple[int, ...]) -> dict[str, float]:
    """Give the megabytes that each piece of work takes at its peak, in a process of its own."""
    work: dict[str, tuple[Callable[..., None], int]] = {"one forward pass": (passes, rows)}
    work |= {f"evaluate, {count} images": (scored, count) for count in counts}
    return {name: _apart(*one, side, rows) for name, one in work.items()}


def _apart(work: Callable[..., None], images: int, side: int, rows: int) -> float:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_worked, args=(work, images, side, rows, there))
    process.start()
    told: float = here.recv()
    process.join()
    return told


def _worked(work: Callable[..., None], images: int, side: int, rows: int, tell: Connection) -> None:
    torch.set_num_threads(1)
    net = network(side).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    one = batch(net, rows)
    ctypes.CDLL(None).malloc_trim(0)  # what is free now must not hide what the work takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, at what is held now
    before = peak()
    work(net, one, images)
    tell.send(peak() - before)


def times(side: int, rows: int, images: int) -> dict[str, float]:
    """Time evaluation and forward passes in turn, a batch each time; give seconds an image."""
    torch.set_num_threads(1)
    net = network(side).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    one = batch(net, rows)
    spent: dict[str, list[float]] = {"evaluate": [], "passes": []}
    for pair in range(max(2, images // rows)):
        turns = [("evaluate", scored), ("passes", passes)]
        for name, work in turns if pair % 2 else reversed(turns):
            began = time.perf_counter()
            work(net, one, rows)
            spent[name].append((time.perf_counter() - began) / rows)
    ratios = [a / b for a, b in zip(spent["evaluate"], spent["passes"], strict=True)]
    return {
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        **{name: median(one) for name, one in spent.items()},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--timed", type=int, default=50, help="images that are timed")
    parser.add_argument("--rows", type=int, default=2, help="images a batch")
    parser.add_argument("--side", type=int, default=1024, help="the side of the network's inputs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    few = max(given.rows, given.images // 10)
    found: dict[str, Any] = {
        "about": __doc__,
        **{name: getattr(given, name) for name in ("images", "timed", "rows", "side")},
        "megabytes": peaks(given.side, given.rows, (few, given.images)),
        "times": times(given.side, given.rows, given.timed),
        "machine": describe_machine(),
    }
    print(json.dumps(to_json(found), indent=1))
    write_text(given.out, json.dumps(to_json(found), indent=1) + "\n")


if __name__ == "__main__":
    main()
