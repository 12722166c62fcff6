"""Five thousand batches of a stream: ``python -m benchmarks.long_stream``.

A small network trained on made images meets batches of eight of them, whose tint changes every
500 batches, by every way of adapting on one thread. Told are the time that the processor takes for
a batch, that of the fastest tenth since others use the machine, among the first 500 after 100 and
among the last 500, how much more memory the process holds in the end than after 600 batches, the
accuracy in the first and the last 500, whose tint is the same, and for which share of images
answers had collapsed to few classes, as the window over the last 200 says, beside the network that
stays. The last row is made to collapse: it shows that a collapse is seen. Views are fewer than by
default: they are most of the time of `cotta` and `vida`, and take no memory that stays.
"""

from __future__ import annotations

import ctypes
import gc
import json
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from adaptune.data import Loading, from_datasets
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.metrics.window import AnswerWindow
from adaptune.networks.network import Network
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.tasks.classification import Classification
from adaptune.types import Unlabeled

RESULTS = Path(__file__).parent / "results" / "long-stream.json"
BATCHES, ROWS, SPAN, WARM = 5000, 8, 500, 100
CLASSES, PIXELS, NOISE = 6, 8, 4.5
PATTERNS = torch.randn(CLASSES, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "alpha-bn": {"method": "alpha-bn"},
    "tent": {"method": "tent"},
    "t3a": {"method": "t3a"},
    "lame": {"method": "lame"},
    "eata": {"method": "eata"},
    "sar": {"method": "sar"},
    "cotta, 2 views": {"method": "cotta", "views": 2},
    "vida, 2 views": {"method": "vida", "views": 2},
    "tent, rate 50": {"method": "tent", "lr": 50.0},
}


def images(count: int, seed: int, tint: float = 0.0) -> tuple[Tensor, Tensor]:
    """Give noisy images of as many classes, each a pattern of its own, under a tint."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=random)
    x = PATTERNS[y] + NOISE * torch.randn(count, 3, PIXELS, PIXELS, generator=random)
    return x * (1 - 0.2 * abs(tint)) + tint * torch.tensor([1.0, -0.6, 0.2]).view(3, 1, 1), y


def trained() -> Network:
    """Give a small network that knows the images without a tint."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (PIXELS // 2) ** 2, CLASSES),
    )
    names = [f"class {number}" for number in range(CLASSES)]
    net = Network.from_module(module, head="7", classes=names)
    sets = [TensorDataset(*images(count, seed)) for count, seed in ((960, 1), (60, 2), (60, 3))]
    data = from_datasets(*sets, classes=names, loading=Loading(batch_size=32))
    for _ in fit(FineTune(net, Classification(CLASSES)), data, Plan(epochs=4, layout="contiguous")):
        pass
    return net


def batch_at(number: int) -> tuple[Tensor, Tensor]:
    """Give a batch of the stream and its labels; the tint is that of its span."""
    tint = (0.0, 2.0, -2.0)[number // SPAN % 3]
    return images(ROWS, 1000 + number, tint)


def lasted(net: Network, said: Mapping[str, Any], batches: int = BATCHES) -> dict[str, Any]:
    """Go through the stream by one way of adapting, and say what it cost and came to."""
    options = {key: value for key, value in said.items() if key != "method"}
    method = METHODS[said["method"]](deepcopy(net), Classification(CLASSES), **options)
    window, truths = AnswerWindow(CLASSES), list[tuple[Tensor, Tensor]]()
    seconds, right = list[float](), list[float]()

    def coming() -> Iterator[Unlabeled]:
        for number in range(batches):
            x, y = batch_at(number)
            index = torch.arange(number * ROWS, (number + 1) * ROWS)
            with torch.no_grad():
                truths.append((y, net(x)))
            seconds.append(time.process_time())
            yield Unlabeled(x, torch.zeros_like(index), index)

    held = [held_now()]
    plan = Plan(layout="contiguous", on_nonfinite="skip")
    for number, answer in enumerate(stream(method, coming(), plan)):
        seconds[-1] = time.process_time() - seconds[-1]
        y, still = truths.pop()
        window.take(answer.logits, still)
        right.append(int((answer.logits.argmax(1) == y).sum()) / ROWS)
        if number in (min(SPAN + WARM, batches // 2), batches - 1):
            held.append(held_now())
    span = min(SPAN, batches // 2)
    return {
        "first": 1000 * quantiles(seconds[WARM % batches :][:span], n=10)[0],
        "last": 1000 * quantiles(seconds[-span:], n=10)[0],
        "grown": held[2] - held[1],
        "reached": [100 * mean(right[:span]), 100 * mean(right[-span:])],
        "collapsed": window.collapsed_rows / (batches * ROWS),
        "collapse": None if window.collapse is None else vars(window.collapse),
    }


def held_now() -> float:
    """Give the megabytes that this process holds, what is free handed back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """Measure all ways and write what they came to."""
    torch.set_num_threads(1)
    net, rows = trained().eval(), []
    for name, said in VARIANTS.items():
        rows.append({"method": name, **lasted(net, said)})
        print(json.dumps(to_json(rows[-1])), flush=True)
    told = {"about": __doc__, "batches": BATCHES, "rows": rows, "machine": describe_machine()}
    write_text(RESULTS, json.dumps(to_json(told), indent=1) + "\n")


if __name__ == "__main__":
    main()
