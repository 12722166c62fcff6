"""Pages say what the committed results say."""

from __future__ import annotations

import inspect
import re

import pytest

import adaptune
from benchmarks.pages import FOLDER, README, measured, overview, pages
from benchmarks.table import KINDS, PAGES, ROOT, filled

METHODS = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_committed_results(page):
    assert filled(page.read_text()) == page.read_text()


def test_every_committed_result_stands_on_a_page():
    shown = "".join(page.read_text() for page in PAGES)
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"<!-- {file.stem} " in shown, file.name


def test_every_mark_is_of_a_table_that_the_command_writes():
    for page in PAGES:
        for kind in re.findall(r"<!-- /?[\w-]+ (.*?) -->", page.read_text()):
            assert kind in KINDS, page.name


def test_the_methods_pages_are_what_the_command_writes():
    assert {page: page.read_text() for page in METHODS} == pages(measured())
    assert overview(README.read_text()) == README.read_text()


@pytest.mark.parametrize("page", [*PAGES, *METHODS], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readmes_commands_and_options_exist():
    from adaptune.commands import COMMANDS

    for command in re.findall(r"^adaptune (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert command in COMMANDS


@pytest.mark.parametrize("page", [*PAGES, *METHODS], ids=lambda page: page.name)
def test_what_a_page_calls_is_there_and_can_be_called(page):
    for name in re.findall(r"\badaptune\.([A-Za-z_]\w*)\(", page.read_text()):
        assert name in adaptune.__all__, name
        assert not inspect.isabstract(getattr(adaptune, name)), name
