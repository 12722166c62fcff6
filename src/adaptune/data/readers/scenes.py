"""Scenes: images beside which masks lie, in a folder of their own or named by a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from adaptune.data.files import Passed, images_below
from adaptune.data.listing import Example, Listing
from adaptune.data.names import compose, first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS, folders_in
from adaptune.data.readers.manifest import SUFFIXES, read_manifest
from adaptune.data.readers.mask_tars import MASKED, read_mask_tars
from adaptune.data.readers.remote import read_remote_scenes
from adaptune.data.readers.tars import is_tars
from adaptune.data.words import is_remote
from adaptune.types import Split

IMAGES, MASKS = ("images", "image"), ("masks", "labels", "annotations")
"""What the two folders are called that a place may hold instead of images."""


@dataclass(frozen=True)
class SceneReader:
    """Lists scenes: a folder of images or a manifest; an example's label is the path of its mask.

    ``masks`` says by the name of a domain in which folder its masks lie. Where it says nothing of
    one, its place holds a folder ``images`` beside one of ``masks``; else its scenes have no masks.
    """

    masks: Mapping[str, Path] = field(default_factory=dict)

    def __call__(self, path: Path, name: str) -> list[Listing]:
        """List what is in a place, one listing a domain.

        Raises:
            ValueError: If there is no image, or the masks lie nowhere.
        """
        path, name = on_disk(path), normal_name(name)
        if is_remote(path):
            return [read_remote_scenes(path, name)]
        if is_tars(path):
            return [read_mask_tars(path, name)]
        if path.suffix.lower() in SUFFIXES:
            return _from_table(path, name)
        return [read_scenes(path, self.masks.get(name), name)]


def read_scenes(root: Path, masks: Path | None, name: str) -> Listing:
    """List the images below ``root``, however deep: all of one set, or ``train/``, ``val/``, ...

    The mask of ``a/b.jpg`` is the image ``a/b`` below ``masks``, whatever its ending, or else the
    only one there that is called ``b``. Images without a mask have the label "".

    Raises:
        ValueError: If there is no image, or no folder of masks.
    """
    if not root.is_dir():
        raise ValueError(
            f"no folder at {printable(root)}: expected one of images, with their masks beside them "
            "or named by --labels"
        )
    passed = Passed()
    below = {folder.name.casefold(): folder for folder in folders_in(root, passed)}
    place = next((below[one] for one in IMAGES if one in below), None)
    if masks is None and place is not None:
        masks = next((below[one] for one in MASKS if one in below), None)
        root = place if masks is not None else root
    files = images_below(root, passed)
    if not files:
        raise ValueError("; ".join([f"{printable(root)} holds no images", *passed.notes(name)]))
    found = _MaskFinder(masks) if masks is not None else None
    splits = {path.relative_to(root).parts[0].casefold() for path in files}
    known = "train" in {SPLITS.get(one) for one in splits}
    examples = []
    for path in files:
        inner = path.relative_to(root)
        label = found.find(inner) if found else ""
        examples.append(Example(path, label, _split(inner) if known else None))
    beside = [one for one in examples if known and one.split is None]
    notes = passed.notes(name)
    if beside:
        notes.append(f"{name}: {len(beside)} images beside train were passed over")
    kept = tuple(one for one in examples if not known or one.split is not None)
    return Listing(name, kept, MASKED if found else (), tuple(notes))


def _split(inner: Path) -> Split | None:
    return SPLITS.get(inner.parts[0].casefold()) if len(inner.parts) > 1 else None


class _MaskFinder:
    """The images of a folder, by their paths without endings and by their names alone."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"no folder of masks at {printable(folder)}: see --labels")
        self.paths: dict[str, Path] = {}
        self.names: defaultdict[str, list[Path]] = defaultdict(list)
        for path in images_below(folder, Passed()):
            self.paths.setdefault(_key(path.relative_to(folder)), path)
            self.names[compose(path.stem)].append(path)

    def find(self, inner: Path) -> str:
        """Find the mask of an image, by its place among the images; "" if there is none."""
        own = self.paths.get(_key(inner))
        named = self.names.get(compose(inner.stem), [])
        if own is None and len(named) == 1:
            own = named[0]
        return "" if own is None else str(own)


def _key(inner: Path) -> str:
    return compose(inner.with_suffix("").as_posix())


def _from_table(file: Path, name: str) -> list[Listing]:
    """List the scenes of a table whose labels, or ``mask``, are paths relative to it."""
    found = read_manifest(file, name, masks=True)
    domains = [
        replace(
            one,
            classes=MASKED,
            examples=tuple(
                replace(each, label=str(on_disk(file.parent / each.label)) if each.label else "")
                for each in one.examples
            ),
        )
        for one in found.values()
    ]
    if len(domains) == 1:
        return [replace(domains[0], name=name)]
    if name == normal_name(file.stem):
        return domains
    return [replace(one, name=f"{name}/{one.name}") for one in domains]


def missing_masks(listing: Listing) -> list[str]:
    """Say which images have no mask.

    >>> missing_masks(Listing("city", (Example(Path("1.png"), ""),), MASKED))
    ['city: 1 images have no mask and are left out: 1.png']
    """
    bare = [printable(one.path) for one in listing.examples if not one.label]
    if not bare:
        return []
    return [f"{listing.name}: {len(bare)} images have no mask and are left out: {first_few(bare)}"]
