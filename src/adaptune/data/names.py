"""Names of classes, domains and files: what makes two of them the same, and their order."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What neither a terminal nor a UTF-8 file should get: control characters and broken UTF-8."""

FEW = 5
"""How many of many things a sentence names."""

OWN = ("id", "train", "val", "test")
"""What the training domain's own sets are called in results and tables, in either case."""

WHOLE = re.compile(r"-?[0-9]{1,18}")


def printable(name: object) -> str:
    r"""Write a name so that it can be printed and saved, whatever bytes it is made of.

    >>> printable("café \udce9\n")
    'café \\udce9\\n'
    """
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(name))


def first_few(names: Sequence[str], between: str = ", ") -> str:
    """Name the first few and count the rest.

    >>> first_few(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    rest = len(names) - FEW
    return between.join(names[:FEW]) + (f" and {rest} more" if rest > 0 else "")


def compose(name: str) -> str:
    r"""Write letters with accents as one character each, as not every disk and program does.

    >>> compose("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def normal_name(said: str) -> str:
    r"""Give the name of a class or a domain as it is known from here on, wherever it was read.

    Blanks around it, and how its accents are written, make no other name.

    >>> normal_name(" cafe\u0301 ") == "caf\u00e9"
    True
    """
    return printable(compose(said).strip())


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort the names of classes: by value where all are whole numbers, or else as text.

    >>> class_order({"10", "2", "01", "1"}), class_order({"10", "2", "b"})
    (('01', '1', '2', '10'), ('10', '2', 'b'))
    """
    chosen = sorted(set(names))
    numbers = all(map(WHOLE.fullmatch, chosen))
    return tuple(sorted(chosen, key=int)) if numbers else tuple(chosen)


def sort_key(path: Path) -> tuple[tuple[str, ...], str]:
    """Give what files are sorted by: their names, however the disk writes accents."""
    text = str(path)
    return (path if text.isascii() else Path(compose(text))).parts, text


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Group the names that differ by case or blanks alone.

    >>> similar_names(["cat", "new york", "Cat", "New  York", "dog"])
    [('cat', 'Cat'), ('new york', 'New  York')]
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(name.split()).casefold()].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def class_finder(classes: Sequence[str]) -> Callable[[str], str]:
    """Give what finds the class of a name: the same, or one that differs in case alone, or "".

    >>> find = class_finder(["cat", "dog"])
    >>> find("Cat"), find("emu")
    ('cat', '')
    """
    folded = {normal_name(name).casefold(): name for name in classes}
    folded |= {normal_name(name): name for name in classes}

    def find(said: str) -> str:
        name = normal_name(said)
        return folded.get(name) or folded.get(name.casefold(), "")

    return find


def refuse_taken(names: Iterable[str], taken: Collection[str] = ()) -> None:
    """Refuse names that another set has.

    Raises:
        ValueError: If a name is that of one of the training domain's own sets, or ``taken``.

    >>> refuse_taken(["sketch"])
    """
    for name in names:
        if name.casefold() in OWN:
            raise ValueError(
                f"no domain can be called {name!r}, since {', '.join(OWN)} are the names of the "
                "training domain's own sets: give it another name"
            )
        if name in taken:
            raise ValueError(
                f"two test sets are called {name!r}: give every domain a name of its own"
            )


def on_disk(path: Path) -> Path:
    """Find a path whose accents the disk writes in another way; any other stays as it is."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        here = found / part
        if not part.isascii() and not os.path.lexists(here):
            here = _same(found, part) or here
        found = here
    return found if os.path.lexists(found) else path


def _same(folder: Path, part: str) -> Path | None:
    """Find what is called the same in a folder when accents are composed."""
    try:
        found = _listed(folder, folder.stat().st_mtime_ns).get(compose(part))
    except OSError:
        return None
    return None if found is None else folder / found


@lru_cache(maxsize=64)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """List a folder as it was when it last ``changed``: once, though a table has many rows."""
    names = sorted((path.name for path in folder.iterdir()), reverse=True)
    return {compose(name): name for name in names}
