"""What loading and evaluation cost: ``python -m benchmarks.loading_speed [--pairs N]``.

Files are written into a folder of the moment: 72 px PNG, seen at 64 px, and JPEG of 500 x 375, seen
at 224 px. Every comparison is of two arms that take turns in one process: the median of the ratios
of neighbours, the lowest and the highest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from lightning_fabric import Fabric
from PIL import Image

from adaptune.data.cache import DiskCache, MemoryCache, NoCache, Store
from adaptune.data.domains import DomainData, Loading
from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import read_image
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.networks.backbones import open_backbone
from adaptune.networks.network import Network
from adaptune.ops.distortion import feature_distortion
from adaptune.tasks.classification import Classification
from adaptune.types import Labeled, Needs

SIZES = {"png": (72, 72), "jpg": (500, 375)}
SIDES = {"png": 64, "jpg": 224}
EACH = {"png": 250, "jpg": 60}
CLASSES = ("a", "b")
OTHERS = ("one", "two", "three", "four")

Arm = Callable[[], object]
Told = dict[str, dict[str, float]]


def measured(pairs: int = 5) -> Told:
    """Give for each comparison the ratio of its two arms and the seconds of both."""
    with tempfile.TemporaryDirectory() as made:
        net = open_backbone("efficientnet-lite0", CLASSES).eval()
        net.to(memory_format=torch.channels_last)
        data = {kind: drawn(Path(made) / kind, kind, net) for kind in SIZES}
        told = evaluated(net, data["png"], pairs)
        for kind in SIZES:
            told |= decoded(net, data[kind], kind, Path(made) / "cache" / kind, pairs)
    return told


def compared(ours: Arm, bare: Arm, pairs: int) -> dict[str, float]:
    """Time two arms in turn, after one turn that does not count."""
    seconds = [(timed(ours), timed(bare)) for _ in range(pairs + 1)][1:]
    ratios = [one / other for one, other in seconds]
    return {
        "ratio": median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours": median(one for one, _ in seconds),
        "bare": median(other for _, other in seconds),
    }


def timed(arm: Arm) -> float:
    began = time.perf_counter()
    arm()
    return time.perf_counter() - began


def drawn(folder: Path, kind: str, net: Network) -> DomainData:
    """Write a domain with train, val and test, and four others, each set of the same size."""
    random = np.random.default_rng(0)
    width, height = SIZES[kind]
    for domain in ("own/train", "own/val", "own/test", *OTHERS):
        for number in range(EACH[kind]):
            file = folder / domain / CLASSES[number % 2] / f"{domain[-3:]}-{number}.{kind}"
            file.parent.mkdir(parents=True, exist_ok=True)
            coarse = random.integers(0, 255, (height // 12, width // 12, 3), np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file)
    data = open_domains(
        folder / "own",
        {name: folder / name for name in OTHERS},
        shares=Shares(ood_images="all"),
        loading=Loading(batch_size=50 if kind == "png" else 20),
    )
    return data.with_input(replace(net.preprocess, size=SIDES[kind]), "flip")


def evaluated(net: Network, data: DomainData, pairs: int) -> Told:
    """Compare evaluation on ID and four other domains with one forward pass over them."""
    fabric = Fabric(accelerator="cpu", devices=1)
    task = Classification(len(net.classes))
    before = {name: sample_outputs(net, rows, fabric=fabric).features for name, rows in tests(data)}
    held = {name: list(rows) for name, rows in tests(data)}

    def ours(sets: Callable[[], list[tuple[str, list[Labeled]]]]) -> Arm:
        def arm() -> None:
            for name, rows in sets():
                found = evaluate(net, rows, task, fabric=fabric)
                feature_distortion(before[name], found.sample.features)

        return arm

    def bare(sets: Callable[[], list[tuple[str, list[Labeled]]]]) -> Arm:
        @torch.no_grad()
        def arm() -> None:
            for _, rows in sets():
                for batch in rows:
                    net(batch.x.contiguous(memory_format=torch.channels_last))

        return arm

    def files() -> list[tuple[str, list[Labeled]]]:
        return tests(data)

    def memory() -> list[tuple[str, list[Labeled]]]:
        return list(held.items())

    return {
        "evaluation with distortion / one forward pass": compared(ours(files), bare(files), pairs),
        "the same from memory": compared(ours(memory), bare(memory), pairs),
    }


def tests(data: DomainData) -> list[tuple[str, list[Labeled]]]:
    return list(data.tests().items())  # type: ignore[arg-type]


def decoded(net: Network, data: DomainData, kind: str, cache: Path, pairs: int) -> Told:
    """Compare an epoch's images with and without caches, and decoding with a forward pass."""
    name = f"{SIZES[kind][0]} px {kind.upper()}"
    stores: dict[str, Store] = {"ram": MemoryCache(), "disk": DiskCache(cache)}
    through = {key: epoch(data, store) for key, store in stores.items()}
    plain = epoch(data, NoCache())
    told = {
        f"an epoch's images from {key} / decoded ({name})": compared(arm, plain, pairs)
        for key, arm in through.items()
    }
    first = compared(lambda: epoch(data, MemoryCache())(), plain, pairs)
    told[f"an epoch's images while ram fills / decoded ({name})"] = first
    paths = data.paths("id")
    x = torch.cat([rows.x for rows in data.scan("test")])
    x = x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, len(x), 50):
            net(x[start : start + 50])

    told[f"decoding {name} / a forward pass at {SIDES[kind]} px"] = compared(
        lambda: [read_image(path) for path in paths], forward, pairs
    )
    return told


def epoch(data: DomainData, store: Store) -> Arm:
    """Read an epoch of training batches, flipped, in this process."""
    assert isinstance(data.augmented, FileRows)
    rows = data.augmented.through(data.augmented.input)
    rows.store = store
    kept = replace(data, augmented=rows)
    return lambda: [None for _ in kept.batches(Needs(), 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    print(json.dumps(measured(parser.parse_args().pairs), indent=1))


if __name__ == "__main__":
    main()
