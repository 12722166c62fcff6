"""Which files are images, and what programs left behind: asked here by whatever lists files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from PIL import Image

from adaptune.data.names import first_few, printable, sort_key
from adaptune.data.words import address_of, is_remote

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is opened, whatever its name ends in; some other kinds would start programs."""

NO_PICTURES = {
    "EPS",  # starts Ghostscript, a program that runs what is in the file
    "MPEG",  # known by its header, never decoded
    "WMF",  # drawn by Windows alone
    "BUFR",  # this and the next three are measurements, whose reader is someone else's
    "FITS",
    "GRIB",
    "HDF5",
    "IM",  # Pillow gives it up
    "IPTC",  # captions of a newspaper, around a picture that may be missing
}
"""What Pillow knows by its ending and is no picture to learn from, or none that it can decode."""


def _endings() -> dict[str, str]:
    known = Image.registered_extensions() | {".mpo": "JPEG"}
    return {
        ending: kind
        for ending, kind in known.items()
        if kind in Image.OPEN and kind not in NO_PICTURES
    }


ENDINGS = _endings()
"""The kind of each ending that an image may have, in lower case."""

LEFT = re.compile(
    r"\._.*|~\$.*|.+~|__macosx|\.appledouble|\.ds_store|icon\r|thumbs\.db|ehthumbs(_vista)?\.db"
    r"|desktop\.ini|@eadir|@__thumb|@recycle|#recycle|#snapshot|\$recycle\.bin"
    r"|system volume information|network trash folder|temporary items|lost\+found|lost\.dir"
    r"|\.trash.*|\.ipynb_checkpoints|__pycache__",
    re.IGNORECASE | re.DOTALL,
)
"""Names that file managers, archives, editors, notebooks and disks give to what they leave."""

KEPT_NAME = re.compile(r"^(\._|~\$|\.trash)|(~)$", re.IGNORECASE)
"""What of a name that is left behind is the same in all of them."""


def is_image(name: str) -> bool:
    """Tell whether a file is called an image.

    >>> is_image("1.JFIF"), is_image("1.pgm"), is_image("1.eps"), is_image(".png")
    (True, True, False, False)
    """
    return PurePath(name).suffix.lower() in ENDINGS


def kinds_of(name: str) -> tuple[str, ...]:
    """List what a file may hold: all common kinds, and of the others that of its ending.

    >>> kinds_of("1.tga")[-1], kinds_of("1.jpg") == KINDS
    ('TGA', True)
    """
    return tuple(dict.fromkeys([*KINDS, ENDINGS.get(PurePath(name).suffix.lower(), KINDS[0])]))


def is_left(name: str) -> bool:
    """Tell whether a file or folder is what a program left behind, also where a table names it.

    >>> is_left("__MACOSX"), is_left("._1.png"), is_left(".cache"), is_left("cat")
    (True, True, False, False)
    """
    return LEFT.fullmatch(name) is not None


def is_passed(name: str) -> bool:
    """Tell whether a listing passes over a file or folder: what is hidden or left behind.

    >>> is_passed(".cache"), is_passed("Thumbs.db"), is_passed("..")
    (True, True, False)
    """
    return (name.startswith(".") and name not in (".", "..")) or is_left(name)


@dataclass
class Passed:
    """What a listing passed over: left behind, no images by their endings, and why it had to."""

    left: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)

    def leave(self, name: str) -> None:
        """Count what a program left behind."""
        kept = KEPT_NAME.search(name)
        prefix, end = (kept[1], kept[2]) if kept else (None, None)
        self.left[f"{prefix}*" if prefix else f"*{end}" if end else printable(name)] += 1

    def other(self, name: str) -> None:
        """Count a file that is no image."""
        self.others[printable(PurePath(name).suffix.lower()) or "without an ending"] += 1

    def counts(self, name: str) -> list[str]:
        """Say in sentences how many there were; one about each kind."""
        said = []
        if self.others:
            said.append(
                f"{name}: {self.others.total()} files that are no images were passed over "
                f"({_most(self.others)})"
            )
        if self.left:
            said.append(
                f"{name}: {self.left.total()} hidden files and folders, or such as programs leave "
                f"behind, were passed over ({_most(self.left)})"
            )
        return said

    def named_in(self, name: str) -> list[str]:
        """Name what could not be listed, in a sentence."""
        said = f"{name}: passed over with all that is in it: {first_few(self.named)}"
        return [said] if self.named else []

    def notes(self, name: str) -> list[str]:
        """Say all of it in sentences."""
        return self.counts(name) + self.named_in(name)


def _most(counted: Counter[str]) -> str:
    ranked = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    return first_few([f"{name} {count}" for name, count in ranked])


def end_of(link: Path) -> Path | None:
    """Follow a link to its end; None where it leads nowhere, or in circles."""
    try:
        return link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def images_below(
    folder: Path, passed: Passed, wanted: Callable[[str], bool] = is_image
) -> list[Path]:
    """List what is called an image in a folder, however deep; the rest goes to ``passed``.

    Names that are ``wanted`` may be others.

    Links to folders are not followed, since they may lead in circles. Whatever is called an image
    and is none, as a link that leads nowhere, is listed too: reading says what is wrong with it.
    """
    files: list[Path] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as opened:
                entries = list(opened)
        except OSError as error:
            passed.named.append(f"{printable(here)} (could not be opened: {error.strerror})")
            continue
        for entry in entries:
            path = here / entry.name
            if is_passed(entry.name):
                passed.leave(entry.name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_symlink() and path.is_dir():
                passed.named.append(f"{printable(path)} (a link to a folder)")
            elif wanted(entry.name):
                files.append(path)
            elif entry.is_symlink() and end_of(path) is None:
                passed.named.append(f"{printable(path)} (a link that leads nowhere)")
            else:
                passed.other(entry.name)
    return sorted(files, key=sort_key)


def refuse_remote(paths: Iterable[Path | str]) -> None:
    """Refuse what does not lie on this machine.

    Raises:
        ValueError: If one lies in a remote store.
    """
    for path in map(Path, paths):
        if is_remote(path):
            raise ValueError(
                f"{address_of(path)} lies in a remote store, and images that are answered one by "
                "one are files of this machine: copy them, or give evaluate --data NAME=ADDRESS"
            )


def image_files(given: Iterable[Path | str]) -> tuple[list[Path], list[str]]:
    """List the files that are named, and the images in folders that are, in the order of names.

    A file that is named is taken whatever it is called. Beside the files comes what was passed
    over, in sentences.

    Raises:
        ValueError: If one lies in a remote store.

    >>> image_files([".hidden.txt"])
    ([PosixPath('.hidden.txt')], [])
    """
    files: list[Path] = []
    notes: list[str] = []
    paths = [Path(one) for one in given]
    refuse_remote(paths)
    for path in paths:
        if path.is_dir():
            passed = Passed()
            files += images_below(path, passed)
            notes += passed.notes(printable(path))
        else:
            files.append(path)
    return files, notes
