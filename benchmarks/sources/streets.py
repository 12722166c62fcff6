"""Streets: Cityscapes alone, or GTA5 or SYNTHIA to train on and Cityscapes to adapt to.

Cityscapes' 19 classes are its label ids by ``cityscapes.csv``; GTA5's palettes have the same ids.
SYNTHIA's labels are PNGs of 16 bits and several channels, of which the first is its own id: they
are written as Cityscapes' label ids below the work folder, once, and 16 classes are learnt, as is
usual.

What adapts sees Cityscapes' training images without labels; its validation images are tested. Test
and validation images of GTA5 and SYNTHIA are divided off by their names, validation images of
Cityscapes off its training images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptune.data.domains import DomainData, Loading
from adaptune.data.labels.mask_table import read_mask_table
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.opening import domains_of
from adaptune.data.sources import Found
from adaptune.types import Split
from benchmarks.sources.rows import given

TABLE = Path(__file__).parent / "cityscapes.csv"
CLASSES = read_mask_table(TABLE).names
SHARED = tuple(one for one in CLASSES if one not in ("terrain", "truck", "train"))
"""The classes that SYNTHIA has too."""

SYNTHIA = {
    **{1: 23, 2: 11, 3: 7, 4: 8, 5: 13, 6: 21, 7: 17, 8: 26, 9: 20, 10: 24, 11: 33, 12: 32},
    **{15: 19, 16: 22, 17: 25, 18: 27, 19: 28, 20: 31, 21: 12},
}
"""SYNTHIA's ids, and which label ids of Cityscapes they are; others are of no class."""

MASKED = ("mask",)
DIVIDED = Shares(val_share=0.05, test_share=0.05)
LAYOUTS = {
    "cityscapes": ("cityscapes/leftImg8bit", "cityscapes/gtFine"),
    "gta5": ("gta5/images", "gta5/labels"),
    "synthia": ("synthia/RGB", "synthia/GT/LABELS"),
}
Name = Literal["cityscapes", "gta5", "synthia"]


def open_source(
    data: Path | None, work: Path, *, train: Name = "cityscapes"
) -> dict[str, Callable[[Loading], DomainData]]:
    """Give the domain ``train``; Cityscapes is its target where it is another.

    Args:
        data: A folder with Cityscapes, and GTA5 or SYNTHIA where it is trained on.
        work: Where SYNTHIA's masks are written.
        train: What to train on.

    Raises:
        ValueError: If the data are missing.
    """
    needed = [*LAYOUTS["cityscapes"], *(LAYOUTS[train] if train != "cityscapes" else ())]
    folder = given(data, " and ".join(needed), *needed)
    city = Listing("cityscapes", tuple(cityscapes(folder / "cityscapes")), MASKED)
    if train == "cityscapes":
        return {train: partial(_opened, Found(city), CLASSES, Shares(0.1, 0.0))}
    if train == "gta5":
        own = tuple(paired(folder / "gta5/images", folder / "gta5/labels"))
    else:
        masks = converted(folder / "synthia/GT/LABELS", work / "synthia")
        own = tuple(paired(folder / "synthia/RGB", masks))
    target = Listing("cityscapes-train", city.of("train"), ())
    found = Found(
        Listing(train, own, MASKED),
        target=target,
        others=(Listing("cityscapes", city.of("test"), MASKED),),
    )
    return {train: partial(_opened, found, SHARED if train == "synthia" else CLASSES, DIVIDED)}


def cityscapes(place: Path) -> Iterator[Example]:
    """List ``leftImg8bit/SPLIT/CITY/X_leftImg8bit.png``, with ``X_gtFine_labelIds.png`` of gtFine.

    Its validation images are those to test on, since labels of its test images are not published.
    """
    splits: dict[str, Split] = {"train": "train", "val": "test"}
    for name, split in splits.items():
        for image in sorted((place / "leftImg8bit" / name).glob("*/*_leftImg8bit.png")):
            frame = image.name.removesuffix("_leftImg8bit.png")
            mask = place / "gtFine" / name / image.parent.name / f"{frame}_gtFine_labelIds.png"
            yield Example(image, str(mask) if mask.is_file() else "", split)


def paired(images: Path, masks: Path) -> Iterator[Example]:
    """List images and the masks of the same names."""
    for image in sorted(images.glob("*.png")):
        mask = masks / image.name
        yield Example(image, str(mask) if mask.is_file() else "")


def converted(labels: Path, out: Path) -> Path:
    """Write SYNTHIA's labels as PNGs of Cityscapes' label ids, where that was not done."""
    out.mkdir(parents=True, exist_ok=True)
    ids = np.zeros(2**8, np.uint8)
    ids[list(SYNTHIA)] = list(SYNTHIA.values())
    for file in sorted(labels.glob("*.png")):
        if (out / file.name).is_file():
            continue
        part = out / f"{file.stem}.part"
        Image.fromarray(ids[first_channel(file)]).save(part, "PNG")
        part.replace(out / file.name)
    return out


def first_channel(file: Path) -> NDArray[np.uint8]:
    """Read the first channel of a PNG of 16 bits, whose values are below 256.

    Of 16 bits of several channels Pillow keeps the upper 8. It gives the lower ones, if it is told
    that the bytes of each value are the other way round, or are channels of their own.

    Raises:
        ValueError: If it is another kind of file.
    """
    with Image.open(file) as image:
        (tile,) = image.tile
        turned = {"RGB;16B": ("RGB;16L", 0), "LA;16B": ("RGBA", 1), "RGBA;16B": ("RGBA;16L", 0)}
        if tile.args not in turned:
            raise ValueError(f"{file} is no PNG of 16 bits and several channels, as SYNTHIA's are")
        mode, channel = turned[tile.args]
        image.tile = [tile._replace(args=mode)]
        return np.asarray(image)[..., channel]


def _opened(found: Found, classes: tuple[str, ...], shares: Shares, loading: Loading) -> DomainData:
    return domains_of(
        found, shares=shares, loading=loading, labels="mask", table=TABLE, classes=classes
    )
