"""Try the lowest versions that pyproject.toml allows of what adaptune needs: ``make bounds-check``.

They are installed where nothing else is, without extras. There every module must come in that needs
no extra, and a network must be trained, evaluated and used on images that are drawn here. Further
words go to ``uv pip install``, such as ``--torch-backend cpu``, which saves most of the download.

    python .ci/lower_bounds.py [WORDS]
    python .ci/lower_bounds.py --smoke FOLDER     # what is tried there, in this environment
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}


def main(words: list[str]) -> None:
    """Install the lowest versions and try them.

    Raises:
        SystemExit: If they do not install, or do not work.
    """
    if words[:1] == ["--smoke"]:
        import_modules()
        train_and_use(Path(words[1]))
        return
    uv = [sys.executable, "-m", "uv", "pip"]
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", "--without-pip", f"{folder}/lowest")
        python = f"{folder}/lowest/bin/python"
        install = [*uv, "install", "--quiet", "--python", python]
        lowest = ["--resolution", "lowest-direct", "-r", f"{ROOT}/pyproject.toml"]
        run(*install, *lowest, *words)
        run(*install, "--no-deps", str(ROOT))
        run(*uv, "freeze", "--python", python)
        run(python, __file__, "--smoke", f"{folder}/tried")


def import_modules() -> None:
    """Import all modules; only packages of extras may be missing, which are told.

    Raises:
        ModuleNotFoundError: If another package is missing.
    """
    import adaptune

    extras = names_of_extras()
    missing: dict[str, list[str]] = {}
    count = 0
    for module in pkgutil.walk_packages(adaptune.__path__, "adaptune."):
        if module.name == "adaptune.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in extras:
                raise
            missing.setdefault(package, []).append(module.name)
        count += 1
    print(f"{count} modules, of which need an extra: {missing}")


def names_of_extras() -> set[str]:
    """Give the names under which packages of extras are imported, as far as they are their own."""
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = said["project"]["optional-dependencies"].values()
    return {re.split(r"[\[<>=]", one)[0].replace("-", "_") for some in listed for one in some}


def train_and_use(folder: Path) -> None:
    """Train the smallest network on images of two colours, measure it and label them by it."""
    from PIL import Image

    from adaptune.commands import main as command

    for kind, colour in COLOURS.items():
        (folder / "data" / kind).mkdir(parents=True)
        for number in range(24):
            shade = tuple(one + number for one in colour)
            Image.new("RGB", (40, 40), shade).save(folder / "data" / kind / f"{number}.png")
    data, out = str(folder / "data"), str(folder / "run")
    small = ["--backbone", "resnet18", "--weights", "none", "--image-size", "32"]
    brief = ["--epochs", "2", "--batch-size", "8", "--workers", "0", "--lr", "0.01"]
    for words in (
        ["fit", data, "--out", out, *small, *brief],
        ["evaluate", out],
        ["predict", out, data, "--out", str(folder / "predictions.csv")],
        ["report", out],
    ):
        if command(words):
            raise SystemExit(f"adaptune {words[0]} failed")


def run(*words: str) -> None:
    """Run a command and show what it says.

    Raises:
        SystemExit: If it fails.
    """
    if subprocess.run(words, cwd=ROOT).returncode:
        raise SystemExit(f"{' '.join(words[:4])} failed")


if __name__ == "__main__":
    main(sys.argv[1:])
