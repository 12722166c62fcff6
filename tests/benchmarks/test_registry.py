"""Every table of the docs has a measurement that makes it again, and one command makes all."""

import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from benchmarks import all as every
from benchmarks.registry import MEASUREMENTS, PAPER, Measurement, duration, measurements
from benchmarks.table import PAGES, ROOT

NAMES = [one.name for one in MEASUREMENTS]
RESULTS = ROOT / "benchmarks" / "results"


def marked() -> set[str]:
    """What the marks of the pages name, the lists of methods and of measurements left out."""
    pages = [re.findall(r"<!-- ([\w-]+)(?: [\w-]+)? -->", page.read_text()) for page in PAGES]
    return {name for names in pages for name in names} - {"methods", "end", "durations"}


def test_every_marked_table_has_a_measurement():
    assert marked() <= set(NAMES)


def test_every_committed_result_is_made_by_one():
    files = {file.stem for file in RESULTS.glob("*.json")} - {"durations"}
    assert files <= {one.name for one in MEASUREMENTS if not one.page}


def test_every_protocol_is_run_by_one_or_is_the_papers():
    protocols = {file.stem for file in (ROOT / "benchmarks" / "protocols").glob("*.toml")}
    assert protocols - set(PAPER) <= set(NAMES)
    assert set(PAPER) <= protocols


@pytest.mark.parametrize("one", MEASUREMENTS, ids=lambda one: one.name)
def test_a_measurement_is_of_a_module_that_takes_its_options_and_writes_its_file(one):
    spec = find_spec(f"benchmarks.{one.module}")
    text = spec.loader.get_source(spec.name)
    for option in one.takes:
        assert f'"{option}"' in text
    if one.module in ("run", "few_steps", "settings"):
        assert (ROOT / "benchmarks" / "protocols" / f"{one.name}.toml").exists()
    elif one.page:
        assert one.page in text
        assert (ROOT / "docs" / one.page).exists()
    else:
        assert f"{one.name}.json" in text


def test_what_others_read_is_made_before_them():
    from benchmarks.selection import BAGS

    assert max(map(NAMES.index, BAGS)) < NAMES.index("selection")


def test_names_are_told_apart():
    assert len(set(NAMES)) == len(NAMES)


ONE, OTHER = (Measurement(name, "", "", "run", (name,), ("--work", "--data")) for name in "ab")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make measurements of no cost; give what was run, what failed, and what was kept."""
    monkeypatch.setattr(every, "DURATIONS", tmp_path / "durations.json")
    ran = []

    def make(*chosen, codes=(), **more):
        ran.clear()
        left = list(codes)

        def run(words):
            ran.append(words[3])
            return left.pop(0) if left else 0

        options = {"--work": tmp_path, "--data": None, "--jobs": 1}
        failed = every.make(chosen, options, tmp_path / "all", run=run, **more)
        kept = tmp_path / "durations.json"
        return list(ran), failed, set(json.loads(kept.read_text())) if kept.exists() else set()

    return make


def test_what_has_ended_is_not_made_again_unless_it_is_asked_for(made):
    assert made(ONE, OTHER) == (["a", "b"], [], {"a", "b"})
    assert made(ONE, OTHER) == ([], [], {"a", "b"})
    assert made(ONE, OTHER, again=True)[0] == ["a", "b"]


def test_one_that_fails_stops_no_other_and_is_made_at_the_next_time_without_a_duration(made):
    assert made(ONE, OTHER, codes=[1, 0]) == (["a", "b"], ["a"], {"b"})
    assert made(ONE, OTHER) == (["a"], [], {"b"})


def test_a_duration_is_of_a_measurement_that_began_with_nothing(made, tmp_path):
    (tmp_path / "a").mkdir()
    assert made(ONE) == (["a"], [], set())


def test_only_options_that_are_given_and_taken_are_passed_on():
    options = {"--data": "/d", "--work": "/w", "--jobs": 2}
    assert every.words_of(ONE, options)[1:] == [
        *("-m", "benchmarks.run", "a", "--work", "/w", "--data", "/d")
    ]
    bare = replace(ONE, takes=("--data", "--jobs"))
    assert every.words_of(bare, {"--data": None, "--jobs": 2})[3:] == ["a", "--jobs", "2"]


def test_the_command_makes_what_is_named_then_tables_and_pages(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(every, "run", lambda words: ran.append(list(words)) or 0)
    made = []
    monkeypatch.setattr(every, "make", lambda chosen, *_, **__: made.extend(chosen) or [])
    assert every.main(["--only", "digits", "demo", "--work", str(tmp_path)]) == 0
    assert [one.name for one in made] == ["digits", "demo"]
    assert ran == [[sys.executable, "-m", f"benchmarks.{name}"] for name in ("table", "pages")]
    monkeypatch.setattr(every, "make", lambda *_, **__: ["digits"])
    assert every.main(["--only", "digits", "--work", str(tmp_path)]) == 1


def test_a_duration_is_what_was_timed_or_else_what_runs_took_or_nothing(monkeypatch):
    digits = next(one for one in MEASUREMENTS if one.name == "digits")
    rows = json.loads(digits.file.read_text())["rows"]
    spent = round(sum(row["seconds"] for row in rows) / 60)
    assert duration(digits, {}) == f"runs of {spent} min on 2 cores"
    assert duration(digits, {"digits": {"seconds": 7200, "cores": 4}}) == "2.0 h on 4 cores"
    assert duration(replace(digits, name="no-such"), {}) == "not timed"


def test_the_table_names_every_measurement_and_its_command():
    text = measurements({})
    for one in MEASUREMENTS:
        assert f"| `{one.name}` |" in text
        assert f"`{one.command}`" in text
