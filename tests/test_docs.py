"""Pages say what the committed results say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_are_those_of_the_committed_results():
    tables = runpy.run_path(str(ROOT / "benchmarks" / "table.py"))
    for page in tables["PAGES"]:
        assert "<!-- demo -->" in page.read_text()
        assert tables["filled"](page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readmes_commands_and_options_exist():
    from adaptune.commands import COMMANDS

    for command in re.findall(r"^adaptune (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert command in COMMANDS
