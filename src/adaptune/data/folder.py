"""Folders of class folders, with or without train, val and test below."""

from __future__ import annotations

from pathlib import Path

from adaptune.data.listing import Example, Listing
from adaptune.types import Split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def read_folder(root: Path, name: str) -> Listing:
    """List the images below ``root``: ``CLASS/...`` or ``train/CLASS/...``, ``val/``, ``test/``.

    A split's folder holds folders and no image, so a class may be called ``train``. Files that
    are not images, by their ending, are counted in the notes.

    Raises:
        ValueError: If the folder is missing, or holds no class folder with an image.
    """
    if not root.is_dir():
        raise ValueError(f"no folder at {root}: expected one with a folder for each class")
    below = _folders(root)
    splits = {folder: SPLITS[folder.name.casefold()] for folder in below if _is_split(folder)}
    parts: list[tuple[Path, Split | None]] = [(root, None)]
    beside: list[str] = []
    if "train" in splits.values() or (splits and len(splits) == len(below)):
        parts = [*splits.items()]
        beside = [folder.name for folder in below if folder not in splits]
    examples: list[Example] = []
    others = 0
    empty: list[str] = []
    labels: set[str] = set()
    for part, split in parts:
        for folder in _folders(part):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            images = [path for path in files if path.suffix.lower() in SUFFIXES]
            others += len(files) - len(images)
            examples += [Example(path, folder.name, split) for path in images]
            labels.add(folder.name)
            if not images:
                empty.append(str(folder.relative_to(root)))
    if not examples:
        raise ValueError(
            f"{root} holds no images: expected a folder for each class with images in it "
            f"({', '.join(sorted(SUFFIXES))}), and found {len(below)} folders"
        )
    notes = [f"{name}: {others} files that are no images were passed over"] if others else []
    notes += [f"{name}: class folders without images: {', '.join(empty)}"] if empty else []
    notes += [f"{name}: folders beside train passed over: {', '.join(beside)}"] if beside else []
    return Listing(name, tuple(examples), tuple(sorted(labels)), tuple(notes))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _is_split(folder: Path) -> bool:
    if folder.name.casefold() not in SPLITS:
        return False
    below = list(folder.iterdir())
    holds_images = any(path.suffix.lower() in SUFFIXES for path in below)
    return not holds_images and any(path.is_dir() for path in below)
