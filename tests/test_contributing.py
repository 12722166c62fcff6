"""The example of CONTRIBUTING.md is the method as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
[DIFF] = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
PARTS = re.findall(
    r"^\+\+\+ b/(\S+)\n@@ (.*?) @@\n(.*?)(?=^---|\Z)", DIFF, re.DOTALL | re.MULTILINE
)


def test_it_touches_one_source_file_the_list_one_test_and_the_changelog():
    assert [file for file, _, _ in PARTS] == [
        "src/adaptune/methods/unsupervised/dann.py",
        "src/adaptune/methods/__init__.py",
        "tests/methods/test_dann.py",
        "CHANGELOG.md",
    ]


@pytest.mark.parametrize(("file", "what", "lines"), PARTS, ids=[part[0] for part in PARTS])
def test_its_added_lines_stand_in_the_files_in_their_order(file, what, lines):
    added = [line.removeprefix("+") for line in lines.splitlines()]
    stands = (ROOT / file).read_text().splitlines()
    if what == "all of it":
        assert added == stands
    rest = iter(stands)
    for line in added:
        assert line in rest, line
