"""Folders of class folders, with or without train, val and test below."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

from adaptune.data.files import Passed, end_of, images_below, is_image, is_passed
from adaptune.data.listing import Example, Listing
from adaptune.data.names import class_order, first_few, normal_name, printable, sort_key
from adaptune.types import Split

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Tree(Protocol):
    """How folders are looked into, wherever they are; what is passed over goes to ``passed``."""

    def folders_in(self, root: Path, passed: Passed) -> list[Path]:
        """List the folders in one."""

    def images_below(self, folder: Path, passed: Passed) -> list[Path]:
        """List what is called an image in a folder, however deep."""

    def images_in(self, folder: Path) -> list[Path]:
        """List what is called an image right in a folder."""


class DiskTree:
    """Folders of this machine."""

    def folders_in(self, root: Path, passed: Passed) -> list[Path]:
        """List the folders in one, which has to be open."""
        return folders_in(root, passed)

    def images_below(self, folder: Path, passed: Passed) -> list[Path]:
        """List what is called an image in a folder, however deep."""
        return images_below(folder, passed)

    def images_in(self, folder: Path, wanted: Callable[[str], bool] = is_image) -> list[Path]:
        """List what is called an image right in a folder, which has to be open."""
        names = [e.name for e in _entries(folder) if wanted(e.name) and not is_passed(e.name)]
        return [path for name in names if not (path := folder / name).is_dir()]


DISK = DiskTree()


def read_folder(root: Path, name: str, tree: Tree = DISK) -> Listing:
    """List the images below ``root``: ``CLASS/...`` or ``train/CLASS/...``, ``val/``, ``test/``.

    A split's folder holds folders and no image, so a class may be called ``train``. Folders that
    differ in how their accents are written, or in blanks around, are one class. Files that are not
    images, by their ending, and what programs left behind are counted in the notes, and folders
    that cannot be opened are named there.

    Raises:
        ValueError: If the folder is missing or closed, or holds no class folder with an image.
    """
    passed = Passed()
    below = tree.folders_in(root, passed)
    splits = {one: SPLITS[one.name.casefold()] for one in below if _is_split(one, tree)}
    parts: list[tuple[Split | None, list[Path]]] = [(None, below)]
    beside: list[str] = []
    if "train" in splits.values() or (splits and len(splits) == len(below)):
        parts = [(split, tree.folders_in(part, passed)) for part, split in splits.items()]
        beside = [printable(folder.name) for folder in below if folder not in splits]
    examples: list[Example] = []
    empty: list[str] = []
    for split, folders in parts:
        for folder in folders:
            files = tree.images_below(folder, passed)
            examples += [Example(path, normal_name(folder.name), split) for path in files]
            if not files:
                empty.append(printable(folder.relative_to(root)))
    direct = tree.images_in(root)
    notes = passed.counts(name)
    notes += [f"{name}: class folders without images: {', '.join(empty)}"] if empty else []
    notes += [f"{name}: folders beside train passed over: {', '.join(beside)}"] if beside else []
    if direct and examples:
        notes.append(f"{name}: {len(direct)} images that lie in no class folder were passed over")
    classes = [folder for _, folders in parts for folder in folders]
    notes += _merged(classes, name) + _as_splits(below, splits, name) + passed.named_in(name)
    if not examples:
        raise ValueError(_without_classes(root, direct, [f"found {len(below)} folders", *notes]))
    labels = class_order(normal_name(folder.name) for folder in classes)
    return Listing(name, tuple(examples), labels, tuple(notes))


def _without_classes(root: Path, direct: list[Path], found: list[str]) -> str:
    """Say that there is no class folder with an image, and what was expected."""
    if direct:
        return (
            f"{printable(root)} holds {len(direct)} images directly, in no class folder: expected "
            f"a folder for each class with images in it, such as CLASS/{printable(direct[0].name)} "
            "(images without classes can be a --target, or be given to predict and stream); "
            f"{'; '.join(found)}"
        )
    return (
        f"{printable(root)} holds no images: expected a folder for each class with images in it, "
        f"such as CLASS/1.jpg or CLASS/1.png, and {'; '.join(found)}"
    )


def _merged(folders: Iterable[Path], name: str) -> list[str]:
    """Say which classes have folders of several names."""
    said: dict[str, set[str]] = {}
    for folder in folders:
        said.setdefault(normal_name(folder.name), set()).add(folder.name)
    many = [label for label, names in said.items() if len(names) > 1]
    if not many:
        return []
    return [
        f"{name}: folders whose names differ only in how accents are written, or in blanks around, "
        f"are one class: {first_few(many)}"
    ]


def _as_splits(below: list[Path], splits: Collection[Path], name: str) -> list[str]:
    """Say that all classes are called as splits are, which then lack class folders."""
    if splits or len(below) < 2 or any(folder.name.casefold() not in SPLITS for folder in below):
        return []
    return [
        f"{name}: {', '.join(printable(folder.name) for folder in below)} hold images directly, so "
        "they are classes: where they are splits, put a folder for each class into them"
    ]


def is_flat(root: Path, tree: Tree = DISK) -> bool:
    """Tell whether a folder holds images and no folder that does: there is no class to read."""
    if not tree.images_in(root):
        return False
    below = tree.folders_in(root, Passed())
    return not any(tree.images_below(folder, Passed()) for folder in below)


def read_flat(root: Path, name: str, tree: Tree = DISK) -> Listing:
    """List the images in a folder without class folders; their label is ""."""
    passed = Passed()
    files = tree.images_below(root, passed)
    notes = passed.notes(name)
    return Listing(name, tuple(Example(path, "") for path in files), (), tuple(notes))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder that has to be open, in the order of names."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"no folder at {printable(folder)}: expected one with a folder for each class"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{printable(folder)} could not be opened ({error.strerror}): give yourself the right "
            "to read it"
        ) from error


def folders_in(root: Path, passed: Passed) -> list[Path]:
    """List the folders in one; the rest goes to ``passed``, with links that lead to no class.

    Raises:
        ValueError: If it is missing or closed.
    """
    found = []
    above = {root.resolve(), *root.resolve().parents}
    for entry in _entries(root):
        path = root / entry.name
        if is_passed(entry.name):
            passed.leave(entry.name)
            continue
        if not entry.is_symlink():
            found += [path] if entry.is_dir() else []
            continue
        target = end_of(path)
        if target is None:
            passed.named.append(f"{printable(path)} (a link that leads nowhere)")
        elif target in above:
            passed.named.append(f"{printable(path)} (a link to a folder that it lies in)")
        elif target.is_dir():
            found.append(path)
    return sorted(found, key=sort_key)


def _is_split(folder: Path, tree: Tree) -> bool:
    """Tell whether a folder is one of the splits: it is called so and holds folders, no image."""
    if folder.name.casefold() not in SPLITS:
        return False
    return not tree.images_in(folder) and bool(tree.folders_in(folder, Passed()))
