"""Build wheel and sdist, and try each where nothing else is installed: ``make dist-check``.

What was installed must have its data and ``py.typed``, give the version of pyproject.toml, list its
commands and methods, and build a network. With ``--no-deps`` the packages of this environment are
used instead of installing them anew, which takes seconds instead of minutes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIED = """
import importlib.resources, importlib.metadata, sys
import adaptune
from adaptune.networks.backbones import open_backbone
place = importlib.resources.files(adaptune)
assert "site-packages" in str(place), place
for name in ("py.typed", "data/emoji-classes.csv", "report/templates", "serving/pages"):
    found = place / name
    assert found.is_file() or any(found.iterdir()), f"{name} is missing"
assert importlib.metadata.version("adaptune") == sys.argv[1]
assert open_backbone("resnet18", ["cat", "dog"], weights="none").width == 512
for name in adaptune.__all__:
    getattr(adaptune, name)
"""


def main(words: list[str]) -> None:
    """Build and try both distributions.

    Raises:
        SystemExit: If one does not build, install or work.
    """
    said = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', said, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "dist")
        run(sys.executable, "-m", "build", "--outdir", made, ROOT)
        files = sorted(made.iterdir())
        for file in files:
            try_in(Path(folder, file.suffix[1:]), file, version, alone="--no-deps" not in words)
            print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB, installs and works")
    if len(files) != 2:
        raise SystemExit(f"expected a wheel and an sdist, and got {files}")


def try_in(place: Path, file: Path, version: str, *, alone: bool) -> None:
    """Install a distribution into a folder of its own, and use it from there."""
    pip = ["-m", "pip", "install", "--quiet"]
    if alone:
        run(sys.executable, "-m", "venv", place)
        python = place / "bin" / "python"
        run(python, *pip, file)
        run(python, "-c", TRIED, version, cwd=place)
        run(place / "bin" / "adaptune", "methods", cwd=place)
    else:
        run(sys.executable, *pip, "--no-deps", "--target", place / "site-packages", file)
        first = f"import sys; sys.path.insert(0, {str(place / 'site-packages')!r})"
        run(sys.executable, "-c", first + TRIED, version, cwd=place)


def run(*words: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; its output is shown where it fails."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[:4]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(sys.argv[1:])
