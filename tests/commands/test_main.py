"""Exit codes: 0 is done, 1 failed with a message, 2 bad arguments."""

import re

import pytest

from adaptune.commands import COMMANDS, main
from adaptune.runtime.devices import DEVICES


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(told, words):
    code, out, _ = told(*words)
    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(told, command):
    code, out, error = told(command, "--help")
    assert code == 0
    assert f"usage: adaptune {command}" in out
    assert not error
    for devices in re.findall(r"--device {(.*?)}", out):
        assert devices == ",".join(DEVICES)


def test_the_version_is_that_of_the_package(told):
    from importlib.metadata import version

    assert told("--version") == (0, f"adaptune {version('adaptune')}\n", "")


def test_an_unknown_command_is_a_bad_argument(told):
    code, out, error = told("tune")
    assert code == 2
    assert not out
    assert "no command 'tune'" in error


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["fit", "--out", "x"], "DATA is missing"),
        (["fit", "photos"], "--out is missing"),
        (["compare", "--out", "x"], "DATA is missing"),
        (["convert", "photos"], "--out is missing"),
        (["doctor"], "data"),
        (["evaluate"], "run"),
        (["predict", "run"], "files"),
        (["choose", "run"], "--images is missing"),
        (["report"], "folder"),
        (["fit", "photos", "--out", "x", "--method", "tnt"], "'tnt' (choose from"),
        (["fit", "photos", "--out", "x", "--epochs", "many"], "epochs"),
        (["fit", "photos", "--out", "x", "--method", "lp", "--lr", "1"], "--lr"),
        (["fit", "--config", "nowhere.yaml", "--out", "x"], "nowhere.yaml"),
        (["doctor", "photos", "--colour", "red"], "--colour"),
    ],
)
def test_bad_arguments_are_named(at_home, told, words, missing):
    code, out, error = told(*words)
    assert code == 2
    assert not out
    assert missing in error
    assert list(at_home.iterdir()) == [], "nothing should be written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "nowhere", "--out", "x"], "adaptune fit: no folder at nowhere"),
        (["evaluate", "nowhere"], "adaptune evaluate: nowhere holds no saved network"),
        (["predict", "nowhere", "a.png"], "adaptune predict: nowhere holds no saved network"),
        (["report", "nowhere"], "adaptune report: nowhere holds no results.json"),
        (["doctor", "nowhere"], "adaptune doctor: no folder at nowhere"),
    ],
)
def test_what_fails_says_why_in_one_message(at_home, told, words, said):
    code, out, error = told(*words)
    assert code == 1
    assert not out
    assert error.startswith(said)
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "words", [["--debug", "report", "nowhere"], ["report", "nowhere", "--debug"]]
)
def test_debug_shows_where_an_error_came_from(words):
    with pytest.raises(ValueError, match="nowhere holds no results"):
        main(words)
