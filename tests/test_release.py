"""What is said of the version is the same everywhere, and what a distribution holds is named."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_citation_and_changelog_are_of_the_version_of_the_package():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == PROJECT["version"]
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_every_file_of_the_package_that_is_no_code_is_looked_for_in_distributions():
    tried = runpy.run_path(str(ROOT / ".ci" / "check_distributions.py"))["TRIED"]
    package = ROOT / "src" / "adaptune"
    for file in package.rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            name = file.relative_to(package)
            assert f'"{name}"' in tried or f'"{name.parent}"' in tried, name


def test_packages_of_extras_are_known_by_the_names_that_they_are_imported_by():
    names = runpy.run_path(str(ROOT / ".ci" / "lower_bounds.py"))["names_of_extras"]()
    assert {"starlette", "transformers", "lightning", "huggingface_hub"} <= names
    assert not names & {"torch", "lightning_fabric", "jsonargparse"}
