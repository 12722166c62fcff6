"""What mkdocs is told of this site: pages from outside docs/, the gallery, the reference, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from posixpath import normpath, relpath
from typing import TYPE_CHECKING, Any

import figures
import gallery
import tutorials

from adaptune import _HOMES
from adaptune.catalog import catalog, homes

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "adaptune"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
"""Pages that lie outside docs/, and where the site has them."""

WORK = ROOT / "build" / "gallery"
"""Where what came of the gallery's scripts is kept."""
MEASURED = "## What we measured"

LINK = re.compile(r"(?<=\]\()([^()#:\s]+)(?=(?:#[^()\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put all pages of a folder where the navigation says ``FOLDER/*``."""
    listed = {
        "gallery/*": ["gallery/index.md", *(gallery.page_of(one) for one in gallery.scripts())],
        "methods/*": ["methods/README.md", *(f"methods/{one.name}.md" for one in catalog())],
        "reference/*": ["reference/index.md", *(f"reference/{room}.md" for room in rooms())],
    }
    config.nav = [
        {title: listed.get(pages, pages) if isinstance(pages, str) else pages}
        for entry in config.nav or ()
        for title, pages in entry.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and every file outside docs/ that a page links to."""
    from mkdocs.structure.files import File

    made = {uri: (ROOT / name).read_text() for name, uri in PAGES.items()}
    made |= {**dict(reference()), **dict(gallery.pages(WORK))}
    made |= {f"methods/{name}.svg": figures.drawn(gains) for name, gains in gained().items()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    written = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    linked = {one for uri, text in written for one in _linked(_origin(uri), text)}
    for script in gallery.scripts():
        uri = f"files/{script.relative_to(ROOT)}"
        files.append(File.generated(config, uri, abs_src_path=str(script)))
    for name in sorted(one for one in linked if _served(one) == f"files/{one}"):
        files.append(File.generated(config, f"files/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where the site has what they name, and part lists and tables from prose."""
    del config, files
    uri = page.file.src_uri
    origin, here = _origin(uri), str(Path(uri).parent)

    def led(found: re.Match[str]) -> str:
        name = _named(origin, found[1])
        return relpath(_served(name), here) if name else found[1]

    name = Path(uri).stem
    if here == "tutorials":
        markdown = tutorials.shown(markdown, name, WORK)
    if here == "methods" and name in gained():
        figure = f'<img src="{name}.svg" alt="gains of {name} with their intervals">'
        markdown = markdown.replace(MEASURED, f"{MEASURED}\n\n{figure}")
    return spaced(LINK.sub(led, markdown))


@cache
def gained() -> dict[str, list[figures.Gain]]:
    """Give what was measured of each method, by its name."""
    from benchmarks.pages import measured

    gains = measured()
    return {
        name: [one for one in gains if one["base"] == name] for name in {g["base"] for g in gains}
    }


def _origin(uri: str) -> str:
    """Say where a page of the site lies in the repository."""
    return next((name for name, made in PAGES.items() if made == uri), f"docs/{uri}")


def _named(origin: str, target: str) -> str:
    """Give the file of the repository that a link of a page names; "" where it names none."""
    name = normpath(f"{Path(origin).parent}/{target}")
    return name if not name.startswith("..") and (ROOT / name).is_file() else ""


def _linked(origin: str, markdown: str) -> Iterator[str]:
    yield from filter(None, (_named(origin, one) for one in LINK.findall(markdown)))


def _served(name: str) -> str:
    """Say where the site has a file of the repository."""
    if name in PAGES:
        return PAGES[name]
    made = {str(one.relative_to(ROOT)): gallery.page_of(one) for one in gallery.scripts()}
    if name in made:
        return made[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else f"files/{name}"


def spaced(markdown: str) -> str:
    """Put the empty line before lists, tables and comments without which they are not seen.

    >>> spaced("There are:\\n- one, and\\n  more\\n- two")
    'There are:\\n\\n- one, and\\n  more\\n- two'
    """
    lines: list[str] = []
    fenced, last, before = False, "", ""
    for line in markdown.splitlines():
        kind = _kind(line, before)
        if not fenced and last and kind != before:
            lines.append("")
        fenced ^= line.lstrip().startswith("```")
        lines.append(line)
        last, before = line, kind
    return "\n".join(lines)


def _kind(line: str, before: str) -> str:
    """Say what a line is of, after one of another kind: what follows in a list's item is of it."""
    if re.match(r"([-*]|\d+\.) ", line):
        return "list"
    if line.startswith("|"):
        return "table"
    if line.startswith("<!--"):
        return "comment"
    goes_on = before == "list" and line and not line.lstrip().startswith(("#", "```"))
    return "list" if goes_on else ""


def rooms() -> list[str]:
    """List the rooms of the package, in the order of their layers as docs/architecture.md says."""
    told = (ROOT / "docs" / "architecture.md").read_text()
    order = re.findall(r"^  (\w+)(?:/|\.py) ", told.partition("src/adaptune/")[2], re.MULTILINE)
    found = {one.stem for one in SOURCE.iterdir() if not one.name.startswith("_")}
    return [one for one in order if one in found]


def reference() -> Iterator[tuple[str, str]]:
    """Give the pages of the reference: the public names, and one page a room from docstrings."""
    public = {name: f"adaptune.{home}.{name}" for name, home in {**_HOMES, **homes()}.items()}
    lines = [
        f"- [`adaptune.{name}`][{place}]"
        for name, place in sorted(public.items())
        if not name.isupper()
    ]
    places = "\n".join(f"- [{room}]({room}.md)" for room in rooms())
    yield (
        "reference/index.md",
        "# Reference\n\nWhat `import adaptune` gives, and below it all rooms of the package "
        "([what each is for](../architecture.md#rooms)).\n\n"
        + "\n".join(lines)
        + f"\n\n## Rooms\n\n{places}\n",
    )
    for room in rooms():
        modules = sorted(_modules(room))
        shown = "\n\n".join(f"::: {name}" for name in modules)
        yield f"reference/{room}.md", f"# {room}\n\n{shown}\n"


def _modules(room: str) -> Iterator[str]:
    """Name the modules of a room that say more than what they import."""
    place = SOURCE / room
    for file in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        if re.search(r"^(class|def|[A-Z_]+\b.*=) ?", file.read_text(), re.MULTILINE):
            name = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
            yield name.removesuffix(".__init__")


def on_env(env: Any, config: MkDocsConfig, files: Files) -> Any:
    """Put the figures of the gallery beside its pages."""
    del files
    gallery.copy_figures(WORK, Path(config.site_dir) / "gallery")
    return env
