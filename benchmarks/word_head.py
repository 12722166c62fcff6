"""What a head of words costs by its classes: ``python -m benchmarks.word_head``.

Each number of classes, of one text each, is measured in a process of its own, on one thread:
seconds to make the head (tokens and the tower's pass), to compare a batch of embeddings with all
classes, and for a step that trains the tower, and the most memory that the process held beside
what it held before. Prints a table; nothing is committed.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch.nn import functional as F

from adaptune.data.class_words import class_texts, with_words
from adaptune.networks.backbones import open_backbone
from adaptune.networks.joint import Words
from adaptune.networks.pairs import joint_head
from adaptune.networks.text import text_backbone

CLASSES = (10, 100, 1000, 10_000)
BATCH = 64
COLUMNS = ("classes", "made, s", "a batch, ms", "trained, s", "memory, MB")


def measured(classes: int, tower: str = "ngrams") -> list[float]:
    """Give the row of a number of classes."""
    torch.set_num_threads(1)
    net = open_backbone("test_resnet", ("pairs",), weights="none")
    net.head = joint_head(net.width, net.preprocess, 64, tower=text_backbone(tower))
    names = [f"class number {number}" for number in range(classes)]
    before = _held()
    made = _timed(lambda: with_words(net, names, class_texts(names, ["a photo of a {}"])))
    head, features = net.eval().head, torch.randn(BATCH, net.width)
    assert isinstance(head, Words)
    with torch.no_grad():
        read = min(_timed(lambda: head(features)) for _ in range(5))
    y = torch.randint(classes, (BATCH,))
    step = _timed(lambda: F.cross_entropy(head(features), y).backward())
    return [classes, made, 1000 * read, step, (_held() - before) / 1024]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _held() -> int:
    """Give the most memory held so far, in KB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table(rows: list[list[float]]) -> str:
    """Write rows as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [
        f"| {int(one[0])} | " + " | ".join(f"{x:.3g}" for x in one[1:]) + " |" for one in rows
    ]
    return "\n".join(lines)


def main(tower: str = "ngrams") -> None:
    """Measure all and print a table."""
    rows = []
    for classes in CLASSES:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows.append(pool.submit(measured, classes, tower).result())
    print(table(rows))


if __name__ == "__main__":
    main(*sys.argv[1:2])
