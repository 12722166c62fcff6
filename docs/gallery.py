"""The gallery: scripts of examples/gallery that are run when the site is built, made into pages.

A script is a docstring, whose first line is the title, and cells that begin with ``# %%``; comments
right below are the page's text, the rest is code. What a cell prints and the figures that it leaves
open stand below it. Every script runs in a process of its own, with one thread, in one folder that
all share, so a script may go on from what one before it left. What came of it is kept, by a hash of
the scripts up to it and of the package, until one of them changes.

    python docs/gallery.py SCRIPT OUT     # run one, as the build does
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "examples" / "gallery"
CELL = re.compile(r"^# %%.*\n", re.MULTILINE)


@dataclass
class Cell:
    """One cell: its text and code, what it printed, and the names of its figures."""

    text: str
    code: str
    line: int = 0
    printed: str = ""
    figures: list[str] = field(default_factory=list)


def scripts() -> list[Path]:
    """List the scripts, in the order of their names."""
    return sorted(SCRIPTS.glob("*.py"))


def page_of(script: Path) -> str:
    """Say where the site has a script's page; the number that orders scripts is left out."""
    return f"gallery/{re.sub(r'^[0-9]+_', '', script.stem).replace('_', '-')}.md"


def read(script: Path) -> tuple[str, str, list[Cell]]:
    """Give a script's title, its introduction, and its cells, not run."""
    source = script.read_text()
    said = ast.get_docstring(ast.parse(source)) or ""
    title, _, intro = said.partition("\n")
    before, *_ = CELL.split(source, maxsplit=1)
    cells, line = [], before.count("\n") + 1
    for part in CELL.split(source)[1:]:
        text, code = _parted(part)
        cells.append(Cell(text, code.strip("\n"), line + _lines_before(part, code)))
        line += part.count("\n") + 1
    return title.rstrip("."), intro.strip(), cells


def _parted(part: str) -> tuple[str, str]:
    """Part a cell into the comments that it begins with and its code."""
    lines = part.splitlines(keepends=True)
    end = next((at for at, one in enumerate(lines) if not one.startswith("#")), len(lines))
    return "".join(one[1:].removeprefix(" ") for one in lines[:end]).strip(), "".join(lines[end:])


def _lines_before(part: str, code: str) -> int:
    return part[: len(part) - len(code.lstrip("\n"))].count("\n") + 1


def execute(script: Path, out: Path) -> None:
    """Run a script in this process, and write its cells with what came of them into ``out``."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = script.stem
    from matplotlib import pyplot

    out.mkdir(parents=True, exist_ok=True)
    _, _, cells = read(script)
    known: dict[str, object] = {"__name__": "__main__", "__file__": str(script)}
    began = time.process_time()
    for number, cell in enumerate(cells):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("\n" * (cell.line - 1) + cell.code, str(script), "exec"), known)
        cell.printed = said.getvalue().rstrip()
        for at, figure in enumerate(map(pyplot.figure, pyplot.get_fignums())):
            name = f"{script.stem}-{number}-{at}.svg"
            figure.savefig(out / name, bbox_inches="tight", metadata={"Date": None})
            cell.figures.append(name)
        pyplot.close("all")
    took = time.process_time() - began
    done = {"seconds": took, "cells": [asdict(cell) for cell in cells]}
    (out / "cells.json").write_text(json.dumps(done, indent=1))


def pages(work: Path) -> Iterator[tuple[str, str]]:
    """Run what has to be run, and give all pages of the gallery."""
    rows = []
    for script in scripts():
        title, intro, _ = read(script)
        yield page_of(script), page(script, ran(script, work))
        first = intro.split("\n\n")[0].replace("\n", " ")
        rows.append(f"- [{title}]({Path(page_of(script)).name}). {first}")
    intro = (
        "Short scripts on real images and weights from packages, run when these pages were built: "
        "all that stands below code is what that code printed or drew. Each takes less than a "
        "minute on one core, so networks are small, images are few and small, and differences "
        "of a few points mean nothing; [what was measured](../benchmarks.md) stands elsewhere."
    )
    yield "gallery/index.md", f"# Gallery\n\n{intro}\n\n" + "\n".join(rows) + "\n"


def page(script: Path, folder: Path) -> str:
    """Write the page of a script that was run."""
    title, intro, _ = read(script)
    done = json.loads((folder / "cells.json").read_text())
    told = [f"# {title}", intro]
    for cell in (Cell(**one) for one in done["cells"]):
        told.append(cell.text)
        if cell.code:
            told.append(f"```python\n{cell.code}\n```")
        if cell.printed:
            told.append(f"```{{.text .printed}}\n{cell.printed}\n```")
        told += [f'<img src="{one}" alt="what the code above draws">' for one in cell.figures]
    told.append(
        f"*Run in {done['seconds']:.0f} s on one core. The script: "
        f"[{script.name}](../files/examples/gallery/{script.name}).*"
    )
    return "\n\n".join(filter(None, told)) + "\n"


def ran(script: Path, work: Path) -> Path:
    """Give the folder with what came of a script; run it where nothing is kept of it.

    Raises:
        RuntimeError: If it fails, with what it said.
    """
    kept = work / f"{script.stem}-{_hash(script)}"
    if (kept / "cells.json").is_file():
        return kept
    print(f"running {script.name}", file=sys.stderr, flush=True)
    for old in work.glob(f"{script.stem}-*"):
        shutil.rmtree(old)
    (work / "shared").mkdir(parents=True, exist_ok=True)
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, script, kept],
        cwd=work / "shared",
        env={**os.environ, **one},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stdout}{done.stderr}")
    return kept


def state() -> str:
    """Give what tells one state of the package and of all scripts from another."""
    return _hash(scripts()[-1])


def _hash(script: Path) -> str:
    before = b"".join(one.read_bytes() for one in scripts() if one <= script)
    return hashlib.sha256(before + _package()).hexdigest()[:16]


@cache
def _package() -> bytes:
    """Give what tells one state of the package, and of what runs scripts, from another."""
    files = sorted((ROOT / "src").rglob("*.py"))
    return hashlib.sha256(b"".join(one.read_bytes() for one in (*files, Path(__file__)))).digest()


def copy_figures(work: Path, site: Path) -> None:
    """Copy all figures to where the site's pages look for them."""
    site.mkdir(parents=True, exist_ok=True)
    for script in scripts():
        for figure in ran(script, work).glob("*.svg"):
            shutil.copy(figure, site / figure.name)


if __name__ == "__main__":
    try:
        execute(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception:
        traceback.print_exc()
        sys.exit(1)
