"""What a step of `fit` on masks costs beside a bare loop: ``python -m benchmarks.mask_speed``.

Made scenes in files, 320 x 240 pixels with masks; the stages of EfficientNet-Lite0 under a linear
head, seen as squares of 192 pixels and mirrored at random, batches of 8. The bare loop reads the
same files by torchvision's own transforms of images and masks, in this process as `fit` does, and
trains the same network. Whole epochs are timed, in turn; in memory both read batches that are made.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from adaptune.data.domains import Loading
from adaptune.data.labels.mask_table import IGNORE
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.runs.setup import Setup
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Needs
from benchmarks.step_speed import Fixed, in_turn

CLASSES, SIDE, ROWS, STEPS, SIZE = 5, 192, 8, 4, (240, 320)
RATE = 1e-4
"""So low that made masks move nothing far."""


def draw(folder: Path, count: int) -> None:
    """Write scenes: smooth colours, and masks of blobs with some places that nobody asks for."""
    random = torch.Generator().manual_seed(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        coarse = torch.randn(1, 3 + CLASSES, 12, 16, generator=random)
        fine = F.interpolate(coarse, SIZE, mode="bicubic")[0]
        pixels = (120 + 50 * fine[:3]).clamp(0, 255).byte().permute(1, 2, 0).numpy()
        mask = fine[3:].argmax(0).byte().numpy()
        mask[:10] = IGNORE
        Image.fromarray(pixels).save(folder / "images" / f"{number:03}.jpg", quality=90)
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """The same files by torchvision's transforms."""

    def __init__(self, folder: Path, net: Network) -> None:
        look = net.preprocess
        self.files = sorted((folder / "images").iterdir())
        self.masks = folder / "masks"
        mode = v2.InterpolationMode(look.interpolation)
        self.transform = v2.Compose(
            [
                v2.Resize((SIDE, SIDE), interpolation=mode, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
                v2.Normalize(list(look.mean), list(look.std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        file = self.files[row]
        image = v2.functional.pil_to_tensor(Image.open(file).convert("RGB"))
        mask = torch.from_numpy(np.array(Image.open(self.masks / f"{file.stem}.png")))
        return self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))  # type: ignore[no-any-return]


def bare_loop(net: nn.Module, batches: Callable[[], Any]) -> Iterator[Tensor]:
    """Train with nothing but torch, one epoch at a time."""
    net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    while True:
        for x, y in batches():
            optimizer.zero_grad()
            logits = net(x.contiguous(memory_format=torch.channels_last))
            logits = F.interpolate(logits, y.shape[1:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(logits, y.long(), ignore_index=IGNORE)
            loss.backward()
            optimizer.step()
        yield loss.detach()


def measured(pairs: int = 5) -> dict[str, dict[str, float]]:
    """Time epochs of `fit` and of a bare loop in turn, ``pairs`` times after one for warmth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "scenes"
        draw(folder, ROWS * STEPS)
        classes = tuple(map(str, range(CLASSES)))
        data = open_domains(
            folder,
            labels="mask",
            classes=classes,
            shares=Shares(0, 0),
            loading=Loading(batch_size=ROWS),
        )
        torch.manual_seed(0)
        net = Setup(image_size=SIDE, task="segmentation").network(classes)
        data = data.with_input(net.preprocess, "flip")
        held = Fixed([batch.labeled for batch in data.batches(Needs(), 0)])
        files = DataLoader(Scenes(folder, net), ROWS, shuffle=True, drop_last=True)
        return {
            "fit on masks / bare loop with the same transforms": _compared(
                net, data, lambda: files, pairs
            ),
            "fit on masks / bare loop, from memory": _compared(
                net, held, lambda: [(rows.x, rows.y) for rows in held.rows], pairs
            ),
        }


def _compared(net: Network, data: Any, batches: Callable[[], Any], pairs: int) -> dict[str, float]:
    made = FineTune(deepcopy(net), Segmentation(CLASSES), lr=RATE)
    epochs = fit(made, data, Plan(epochs=pairs + 2, layout="channels_last"))
    next(epochs)
    bare = bare_loop(deepcopy(net), batches)
    return in_turn(epochs, bare, pairs, steps=STEPS)


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]) if len(sys.argv) > 1 else 5), indent=1))
