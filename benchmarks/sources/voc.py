"""Pascal VOC 2012 with 21 classes, also with the masks that SBD adds; tested on VOC's validation.

Masks are palettes of indices, whose borders are 255. With SBD (Hariharan et al., 2011) training has
10,582 images: those of VOC's and of SBD's lists that VOC does not validate on. Their masks are
``SegmentationClassAug``, as many keep them, or those of SBD's own .mat files, which are written as
PNGs below the work folder; VOC's own masks come first. Validation images are divided off training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.opening import domains_of
from adaptune.data.sources import Found
from adaptune.types import Split
from benchmarks.sources.rows import given

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SHARES = Shares(val_share=0.05, test_share=0.0)
OWN, LISTS, AUGMENTED = "SegmentationClass", "ImageSets/Segmentation", "SegmentationClassAug"
SBD = "benchmark_RELEASE/dataset"
LAYOUT = "VOCdevkit/VOC2012, as its tar unpacks (JPEGImages, SegmentationClass, ImageSets)"


def open_source(
    data: Path | None, work: Path, *, augmented: bool = True
) -> dict[str, Callable[[Loading], DomainData]]:
    """Give ``voc``, with SBD's masks if it is ``augmented``.

    Raises:
        ValueError: If the data are missing.
    """
    needed = ("JPEGImages", OWN, f"{LISTS}/train.txt", f"{LISTS}/val.txt")
    folder = given(data, LAYOUT, *(f"VOCdevkit/VOC2012/{one}" for one in needed))
    place = folder / "VOCdevkit/VOC2012"
    masks = {stem: place / OWN / f"{stem}.png" for stem in stems(place / LISTS / "train.txt")}
    tested = stems(place / LISTS / "val.txt")
    if augmented:
        more = added_masks(folder, work / "sbd")
        masks = {stem: mask for stem, mask in more.items() if stem not in tested} | masks
    examples = [_example(place, stem, mask, "train") for stem, mask in sorted(masks.items())]
    examples += [_example(place, stem, place / OWN / f"{stem}.png", "test") for stem in tested]
    return {"voc": partial(_opened, tuple(examples))}


def stems(file: Path) -> list[str]:
    """Read the names of images in a list, one a line."""
    return file.read_text().split()


def added_masks(folder: Path, out: Path) -> dict[str, Path]:
    """Give SBD's masks by their images' names, as PNGs; .mat files are converted once.

    Raises:
        ValueError: If the data hold neither kind.
    """
    place = folder / "VOCdevkit/VOC2012" / AUGMENTED
    if place.is_dir():
        return {file.stem: file for file in sorted(place.glob("*.png"))}
    if not (folder / SBD / "cls").is_dir():
        raise ValueError(
            f"{folder} lacks SBD's masks: expected VOCdevkit/VOC2012/{AUGMENTED} with PNGs, or "
            f"{SBD} with cls, train.txt and val.txt; or give the protocol augmented = false"
        )
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for stem in (*stems(folder / SBD / "train.txt"), *stems(folder / SBD / "val.txt")):
        found[stem] = out / f"{stem}.png"
        if not found[stem].is_file():
            _converted(folder / SBD / "cls" / f"{stem}.mat").save(found[stem])
    return found


def _converted(file: Path) -> Image.Image:
    from scipy.io import loadmat

    inside = loadmat(file, squeeze_me=True, struct_as_record=False)["GTcls"]
    return Image.fromarray(np.asarray(inside.Segmentation, np.uint8))


def _example(place: Path, stem: str, mask: Path, split: Split) -> Example:
    return Example(place / "JPEGImages" / f"{stem}.jpg", str(mask), split)


def _opened(examples: tuple[Example, ...], loading: Loading) -> DomainData:
    return domains_of(
        Found(Listing("voc", examples, ("mask",))),
        shares=SHARES,
        loading=loading,
        labels="mask",
        classes=CLASSES,
    )
