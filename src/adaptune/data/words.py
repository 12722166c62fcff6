"""Words that name data, as people write them: DIR, NAME=DIR, or the NAME of a domain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptune.data.names import normal_name, on_disk, refuse_taken

HOSTED = "hf:"
"""What stands before a data set of Hugging Face: a folder, or a name on its hub."""


REMOTE = re.compile(r"(?!hf:)([a-z][a-z0-9+.-]+):/+")
"""How the address of a remote store begins, as a word or as a path of it: s3:// or s3:/."""


def is_remote(place: Path | str) -> bool:
    """Tell whether a place lies in a store that fsspec opens.

    >>> is_remote("s3://photos/cat"), is_remote(Path("s3://photos/cat")), is_remote("hf:/photos")
    (True, True, False)
    """
    return REMOTE.match(str(place)) is not None


def address_of(place: Path | str) -> str:
    """Write a remote place as stores read it.

    >>> address_of(Path("s3://photos/cat"))
    's3://photos/cat'
    """
    return REMOTE.sub(lambda found: f"{found[1]}://", str(place), count=1)


@dataclass(frozen=True)
class NamedPlace:
    """What a word says: a name, and where what it names lies; each "" where it is not said."""

    name: str
    place: str

    @property
    def path(self) -> Path:
        """The place, as the disk spells it."""
        return on_disk(Path(self.place))


def read_word(word: str) -> NamedPlace:
    """Read NAME=DIR; a word without = is a NAME.

    >>> read_word("art=data/art"), read_word("art").place
    (NamedPlace(name='art', place='data/art'), '')
    """
    name, equals, place = word.partition("=")
    return NamedPlace(normal_name(name), place if equals else "")


def read_place(word: str) -> NamedPlace:
    """Read DIR or NAME=DIR; where the whole word is a place, it is that, whatever it looks like."""
    said = read_word(word)
    return said if said.place and not is_there(word) else NamedPlace("", word)


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=DIR`` words.

    Raises:
        ValueError: If a word has no name, or the name is that of another set.

    >>> named_folders(["sketch=data/sketch"])
    {'sketch': PosixPath('data/sketch')}
    """
    folders: dict[str, Path] = {}
    for word in words:
        said = read_word(word)
        if not (said.name and said.place):
            raise ValueError(f"expected NAME=DIR, such as sketch=data/sketch, and got {word!r}")
        folder = Path(said.place)
        same = said.name in folders and folders[said.name].absolute() == folder.absolute()
        refuse_taken([said.name], [] if same else folders)
        folders[said.name] = folder
    return folders


def absolute_path(place: Path | str) -> str:
    """Write a place so that it can be found from any folder; a name on a hub stays one.

    >>> absolute_path("hf:nobody/nothing"), absolute_path("/data/art")
    ('hf:nobody/nothing', '/data/art')
    """
    word = str(place)
    if is_remote(word):
        return address_of(word)
    if not word.startswith(HOSTED):
        return str(Path(place).absolute())
    folder = Path(word.removeprefix(HOSTED))
    return f"{HOSTED}{folder.absolute()}" if folder.exists() else word


def absolute_word(word: str) -> str:
    """Write NAME=DIR so that it can be found from any folder; NAME alone stays as it is.

    >>> absolute_word("art"), absolute_word("art=/data/art")
    ('art', 'art=/data/art')
    """
    name, equals, place = word.partition("=")
    return f"{name}={absolute_path(place)}" if equals else word


def absolute_place(word: str) -> str:
    """Write what `read_place` reads so that it can be found from any folder."""
    return absolute_path(word) if is_there(word) else absolute_word(word)


def is_there(word: str) -> bool:
    """Tell whether a word is a place: a path that exists, or the name of what lies elsewhere."""
    return word.startswith(HOSTED) or is_remote(word) or on_disk(Path(word)).exists()
