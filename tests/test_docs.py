"""Pages say what the committed results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.table import PAGES as TABLED
from benchmarks.table import filled

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_committed_results(page):
    assert filled(page.read_text()) == page.read_text()


def test_every_committed_result_stands_on_a_page():
    shown = "".join(page.read_text() for page in PAGES)
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"<!-- {file.stem} " in shown, file.name


def test_every_page_with_a_table_is_written_by_the_command():
    marked = [page for page in PAGES if "<!-- /" in page.read_text()]
    assert sorted(marked) == sorted(TABLED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readmes_commands_and_options_exist():
    from adaptune.commands import COMMANDS

    for command in re.findall(r"^adaptune (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert command in COMMANDS
