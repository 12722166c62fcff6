"""Tutorials: their console blocks are run when the site is built, in the order of pages' names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gallery

BLOCK = re.compile(r"^```console\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FONT = re.compile(r"\x1b\[[0-9;]*m")


def commands(markdown: str) -> list[str]:
    """Give the commands of each console block, one a line, without the prompt.

    >>> commands("```console\\n$ ls\\n```\\n")
    ['ls']
    """
    return [re.sub(r"^\$ ", "", one, flags=re.MULTILINE).strip() for one in BLOCK.findall(markdown)]


def shown(markdown: str, name: str, work: Path) -> str:
    """Give a page with what its commands print; those that were run before are not run again.

    Raises:
        RuntimeError: If a command fails, with what it said.
    """
    printed = iter(ran(commands(markdown), name, work))

    def below(block: re.Match[str]) -> str:
        said = next(printed)
        return block[0] + (f"\n```{{.text .printed}}\n{said}\n```\n" if said else "")

    return BLOCK.sub(below, markdown)


def ran(blocks: list[str], name: str, work: Path) -> list[str]:
    """Run blocks of commands beside what the gallery's scripts left, and keep what they said."""
    known = hashlib.sha256(json.dumps([blocks, gallery.state()]).encode()).hexdigest()[:16]
    kept = work / f"tutorial-{name}-{known}.json"
    if not kept.is_file():
        print(f"running the commands of {name}", file=sys.stderr, flush=True)
        for old in work.glob(f"tutorial-{name}-*.json"):
            old.unlink()
        place = work / "shared" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        kept.write_text(json.dumps([_said(one, place) for one in blocks], indent=1))
    printed: list[str] = json.loads(kept.read_text())
    return printed


def _said(block: str, place: Path) -> str:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "100", "PATH": here}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=place,
        env={**os.environ, **one},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"a command failed with {done.returncode}:\n{block}\n{done.stdout}")
    return FONT.sub("", done.stdout).strip()
