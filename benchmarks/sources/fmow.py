"""Satellite images of the Americas, tested in Africa and Europe: fMoW as WILDS packs it.

As in Kumar et al. (2022) and Ha, Jeong and Lee (2024), training images are of the Americas before
2013, rates are chosen there, and Africa and Europe are tested on the places of fMoW's validation
split: in the same years (``africa``, ``europe``) and from 2013 to 2015 (``africa-later``,
``europe-later``), where time has changed as well. They report ID accuracy on the images that
chose the rates; here it is on fMoW's test split.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Example, Listing, Shares
from adaptune.data.opening import domains_of
from adaptune.data.sources import Found
from adaptune.types import Split
from benchmarks.sources.rows import given

SHARES = Shares(val_share=0.0, test_share=0.0, ood_images="all")
LATER, END = 2013, 2016
"""The first year that comes later than training, and the first of which nothing is used."""
SPLITS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
LAYOUT = (
    "rgb_metadata.csv, country_code_mapping.csv and images/rgb_img_N.png, as WILDS unpacks fmow"
)


@dataclass(frozen=True)
class Photo:
    """A line of the metadata: what, where and when."""

    path: Path
    category: str
    region: str
    year: int
    split: str


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give ``americas``, tested in Africa and Europe.

    Raises:
        ValueError: If the data are missing.
    """
    del work
    folder = given(data, LAYOUT, "rgb_metadata.csv", "country_code_mapping.csv", "images")
    return {"americas": partial(_opened, folder)}


def _opened(folder: Path, loading: Loading) -> DomainData:
    found = photos(folder)
    classes = tuple(sorted({photo.category for photo in found}))
    own = tuple(
        Example(photo.path, photo.category, SPLITS[photo.split])
        for photo in found
        if photo.region == "Americas" and photo.year < LATER and photo.split in SPLITS
    )
    others = []
    for region in ("Africa", "Europe"):
        there = [photo for photo in found if (photo.region, photo.split) == (region, "val")]
        same = [photo for photo in there if photo.year < LATER]
        later = [photo for photo in there if LATER <= photo.year < END]
        for name, some in ((region.lower(), same), (f"{region.lower()}-later", later)):
            tested = tuple(Example(photo.path, photo.category, "test") for photo in some)
            others.append(Listing(name, tested, classes))
    return domains_of(
        Found(Listing("americas", own, classes), others=tuple(others)),
        shares=SHARES,
        loading=loading,
    )


def photos(folder: Path) -> list[Photo]:
    """Read the metadata; line N, counted from 0, is of ``images/rgb_img_N.png``.

    Regions are those of the mapping, which lists countries by three letters in ``alpha-3``.
    """
    with (folder / "country_code_mapping.csv").open(encoding="utf-8", newline="") as lines:
        regions = {row["alpha-3"]: row["region"] for row in csv.DictReader(lines)}
    with (folder / "rgb_metadata.csv").open(encoding="utf-8", newline="") as lines:
        return [
            Photo(
                path=folder / "images" / f"rgb_img_{number}.png",
                category=row["category"],
                region=regions.get(row["country_code"], "Other"),
                year=int(row["timestamp"][:4]),
                split=row["split"],
            )
            for number, row in enumerate(csv.DictReader(lines))
        ]
