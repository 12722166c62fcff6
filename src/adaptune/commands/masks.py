"""What is written of each image that a network of places is asked about: its mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adaptune.commands.parser import Parser
from adaptune.ops.places import best_classes
from adaptune.report.masks import palette
from adaptune.runs.masks import Band
from adaptune.runs.setup import MOST_PIXELS


def add_tiles(parser: Parser) -> None:
    """Let a command be told how large images are looked at; by default as the run's tests were."""
    parser.add_argument(
        "--tile",
        type=int,
        between=(0, MOST_PIXELS),
        help="of masks: the side of what is seen at a time of a larger image, in its own pixels; "
        "0 scales whole images to the network's size; by default as in the run's tests",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        between=(0, MOST_PIXELS),
        help="of masks: by how many pixels tiles overlap at the least",
    )


def save_mask(mask: Tensor, file: Path) -> None:
    """Write a mask (H, W) uint8 as a PNG of indices with a palette.

    Raises:
        OSError: If it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = mask.shape
    image = Image.frombytes("P", (width, height), mask.numpy().tobytes())
    image.putpalette(palette(256))
    image.save(file, "PNG")


def save_probabilities(bands: Iterator[Band], shape: tuple[int, int, int], file: Path) -> Tensor:
    """Write probabilities of classes (K, H, W) as a NumPy file of float16; give the mask (H, W).

    Both are made some rows at a time, so that not all probabilities are held at once.

    Raises:
        OSError: If it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    written = np.lib.format.open_memmap(file, "w+", np.float16, shape)
    mask = torch.empty(shape[1:], dtype=torch.uint8)
    for rows, columns, logits in bands:
        written[:, rows, columns] = logits.softmax(0).cpu().numpy()
        mask[rows, columns] = best_classes(logits)[1].cpu()
    written.flush()
    return mask


def places_of(files: Sequence[Path], given: Sequence[str], out: Path) -> list[Path]:
    """Say where the mask of each file goes: where it lies in a folder that was given, as a PNG.

    Raises:
        ValueError: If two would go to one place, or one to where an image is.

    >>> places_of([Path("a/b/1.jpg")], ["a"], Path("out"))
    [PosixPath('out/b/1.png')]
    """
    roots = [Path(one) for one in given]
    places = []
    for file in files:
        root = next((one for one in roots if one in file.parents), file.parent)
        places.append((out / file.relative_to(root)).with_suffix(".png"))
    taken: dict[Path, Path] = {}
    images = {file.absolute() for file in files}
    for file, place in zip(files, places, strict=True):
        if place.absolute() in images:
            raise ValueError(f"the mask of {file} would take the place of an image: choose --out")
        if taken.setdefault(place, file) is not file:
            raise ValueError(
                f"the masks of {taken[place]} and {file} would both be {place}: predict them "
                "apart, each into a folder of its own"
            )
    return places
