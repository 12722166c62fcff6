"""Scenes with exact masks: cut-out photos, clip art and two vendors' emoji pasted on photographs.

A domain is a style of things. Grounds are crops of the two photographs that scikit-learn carries,
the same in every domain: what is trained on shows their left, what is tested on their right. Things
are split by a hash of their name, so none that is trained on is tested, in another style either.
A pixel is of the thing whose alpha is above a half there, the last that was pasted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from adaptune.data.demo import build_demo
from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import split_position
from adaptune.data.opening import open_domains
from benchmarks.sources.photos import EMOJI, PACKAGES, chosen, cutout, unpacked

THINGS = ("mammal", "bird", "plant", "fruit", "vehicle")
CLASSES = ("ground", *THINGS)

SIDE = 96
"""Pixels of a scene's side."""

SPLITS = {"train": (160, 0.0, 0.6), "val": (40, 0.6, 0.75), "test": (100, 0.75, 1.0)}
"""By split: how many scenes, and the share of things, and of a photograph's columns, it has."""

Things = Mapping[str, Sequence[Image.Image]]


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give each style as ID domain in turn; the others are OOD.

    Args:
        data: Not used: all that is needed is in packages.
        work: Where packages are unpacked and scenes written.

    Raises:
        ValueError: If a package can neither be found nor fetched.
    """
    del data
    folders = {name: written(name, work) for name in (*PACKAGES, "twemoji", "openmoji")}
    return {name: partial(_opened, name, folders) for name in folders}


def _opened(name: str, folders: Mapping[str, Path], loading: Loading) -> DomainData:
    others = {other: folder for other, folder in folders.items() if other != name}
    return open_domains(folders[name], others, labels="mask", classes=CLASSES, loading=loading)


def written(name: str, work: Path) -> Path:
    """Write a domain's scenes and masks as a tree of splits; once."""
    folder = work / "pasted" / name
    if folder.is_dir():
        return folder
    files = list(_files(name, work))
    beside = folder.with_name(f"{name}.new")
    for split, (number, low, high) in SPLITS.items():
        things = {
            label: [
                cut for file in own if low <= split_position(file.stem) < high for cut in _cut(file)
            ]
            for label, own in files
        }
        grounds = [one[:, _columns(one, low, high)] for one in load_sample_images().images]
        for place in ("images", "masks"):
            (beside / place / split).mkdir(parents=True, exist_ok=True)
        for at in range(number):
            image, mask = scene(things, grounds, random.Random(f"{split} {at}"))
            image.save(beside / "images" / split / f"{split}-{at:03}.png")
            mask.save(beside / "masks" / split / f"{split}-{at:03}.png")
    beside.replace(folder)
    return folder


def scene(
    things: Things, grounds: Sequence[np.ndarray], draw: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Paste two to four things of random classes on a crop; give the image and its mask."""
    ground = draw.choice(grounds)
    side = draw.randint(SIDE, min(ground.shape[:2]))
    top, left = (draw.randint(0, extent - side) for extent in ground.shape[:2])
    image = Image.fromarray(ground[top : top + side, left : left + side]).resize((SIDE, SIDE))
    mask = Image.new("L", (SIDE, SIDE))
    for _ in range(draw.randint(2, 4)):
        label = draw.choice(sorted(things))
        thing = draw.choice(things[label]).copy()
        longest = draw.randint(SIDE // 4, SIDE // 2)
        thing.thumbnail((longest, longest))
        place = (draw.randint(0, SIDE - thing.width), draw.randint(0, SIDE - thing.height))
        alpha = thing.getchannel("A")
        image.paste(thing, place, alpha)
        mask.paste(CLASSES.index(label), place, alpha.point(lambda value: 255 * (value > 127)))
    return image, mask


def _files(name: str, work: Path) -> Iterator[tuple[str, list[Path]]]:
    if name in PACKAGES:
        package, below, classes = PACKAGES[name]
        root = unpacked(package, work / "packages") / below
        yield from chosen(root, {label: classes[label] for label in THINGS})
        return
    drawn = build_demo(work / "emoji")[name]
    for label in THINGS:
        yield label, sorted(file for one in EMOJI[label] for file in (drawn / one).glob("*.png"))


def _cut(file: Path) -> list[Image.Image]:
    """Cut a thing out of its empty margins; nothing where it fills its page or cannot be read."""
    small = cutout(file)
    box = small.getchannel("A").getbbox() if small else None
    if small is None or box is None or small.getchannel("A").getextrema()[0] > 0:
        return []
    return [small.crop(box)]


def _columns(photograph: np.ndarray, low: float, high: float) -> slice:
    width = photograph.shape[1]
    return slice(round(low * width), round(high * width))
