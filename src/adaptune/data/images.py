"""Image files as tensors: decoding, transforms, and what to do with files that are broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from adaptune.data.listing import Example
from adaptune.network import Preprocess

Augment = Literal["none", "flip", "crop"]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


def read_image(path: Path) -> Tensor:
    """Decode a file into uint8 (3, H, W): upright, on white where it is transparent.

    Raises:
        OSError: If the file cannot be read as an image.
    """
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        pixels: Tensor = v2.functional.pil_to_tensor(image.convert("RGB"))
    return pixels


def transform_for(preprocess: Preprocess, augment: Augment = "none") -> Callable[[Any], Tensor]:
    """Make the transform from uint8 images to inputs.

    ``none`` resizes the shorter side and takes the centre; ``flip`` adds a horizontal flip;
    ``crop`` takes a random part of at least 60% of the area instead, and flips.
    """
    mode = InterpolationMode(preprocess.interpolation)
    size = preprocess.size
    steps: list[Any] = [
        v2.Resize(round(size / preprocess.crop), interpolation=mode, antialias=True),
        v2.CenterCrop(size),
    ]
    if augment == "crop":
        steps = [v2.RandomResizedCrop(size, (0.6, 1.0), interpolation=mode, antialias=True)]
    if augment != "none":
        steps.append(v2.RandomHorizontalFlip())
    steps += [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocess.mean), list(preprocess.std)),
    ]
    return v2.Compose(steps)  # type: ignore[no-any-return]


Sample = tuple[Tensor, int, int]
"""An input, its label and its row in the data set."""


class ImageFiles(Dataset[Sample | Unreadable]):
    """Image files under labels. An item is asked for by its row and the seed of its augmentation.

    What is random about an item depends on that seed alone, so it is the same for any number of
    workers. A file that cannot be read gives an `Unreadable`, never an error.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[str],
        transform: Callable[[Any], Tensor],
    ) -> None:
        self.paths = [example.path for example in examples]
        rows = {name: row for row, name in enumerate(classes)}
        self.labels = [rows[example.label] for example in examples]
        self.transform = transform

    def through(self, transform: Callable[[Any], Tensor]) -> ImageFiles:
        """Give the same files under another transform."""
        other = copy(self)
        other.transform = transform
        return other

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        path = self.paths[row]
        try:
            image = read_image(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return Unreadable(str(path), str(error) or type(error).__name__)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.transform(image), self.labels[row], row


class Rows(Dataset[Sample | Unreadable]):
    """Any torch data set of (x, label) pairs, seen as rows that are asked for by row and seed."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                x, label = self.data[row][:2]
            except (OSError, ValueError) as error:
                return Unreadable(f"row {row}", str(error))
        return torch.as_tensor(x), int(label), row
