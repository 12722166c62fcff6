"""Emoji as several vendors draw them: Twemoji, OpenMoji, and every vendor that the user has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from adaptune.data.demo import build_demo
from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.data.readers.folder import read_folder
from adaptune.data.rotation import shared_classes

SHARES = Shares(val_share=0.15, test_share=0.25)


def open_source(data: Path | None, work: Path) -> dict[str, Callable[[Loading], DomainData]]:
    """Give each vendor as ID domain in turn; all others are OOD.

    An emoji has the same file name everywhere, so none that is trained on is tested in another
    style. Classes are those that every vendor has.

    Args:
        data: A folder with a folder of class folders for each further vendor, if there are any.
        work: Where the first two vendors are drawn.

    Raises:
        ValueError: If the folder holds no domain, or one of a name that is taken.
    """
    folders = vendors(data, work)
    classes = shared_classes([read_folder(folder, name) for name, folder in folders.items()])
    return {name: partial(_opened, name, folders, classes) for name in folders}


def vendors(data: Path | None, work: Path) -> dict[str, Path]:
    """Give each vendor's folder of class folders; the arguments as for `open_source`.

    Raises:
        ValueError: If the folder holds no domain, or one of a name that is taken.
    """
    folders = dict(build_demo(work / "emoji"))
    return folders if data is None else folders | _further(data, set(folders))


def _further(data: Path, taken: set[str]) -> dict[str, Path]:
    below = sorted(data.iterdir()) if data.is_dir() else []
    found = {path.name: path for path in below if path.is_dir() and path.name[0] != "."}
    if not found:
        raise ValueError(
            f"{data} holds no domains: expected a folder for each, with a folder for each class"
        )
    if taken & set(found):
        raise ValueError(
            f"{', '.join(sorted(taken & set(found)))} in {data} is drawn from packages already: "
            "give the folder another name"
        )
    return found


def _opened(
    name: str, folders: dict[str, Path], classes: tuple[str, ...], loading: Loading
) -> DomainData:
    others = {other: folder for other, folder in folders.items() if other != name}
    return open_domains(folders[name], others, shares=SHARES, loading=loading, classes=classes)
