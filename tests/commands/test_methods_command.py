"""`methods` lists every method with its setting, summary, paper and what can be set."""

import json
import re
from dataclasses import replace

import pytest

from adaptune.catalog import catalog
from adaptune.commands import main
from adaptune.engine.method import hyperparameters
from adaptune.methods import METHODS


def shown(told, monkeypatch, *words, columns: int = 80) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = told("methods", *words)
    assert code == 0
    return out.splitlines()


@pytest.fixture
def told(capsys):
    """Run a command, on a terminal as wide as the environment says."""

    def tell(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, error = capsys.readouterr()
        return code, out, error

    return tell


def test_every_method_is_listed_once_below_its_setting(told, monkeypatch):
    heading, found = "", []
    for line in shown(told, monkeypatch, columns=200)[:-2]:
        if line.startswith(" "):
            found.append((heading, *re.split(r"\s{2,}", line.strip())))
        else:
            assert line not in {setting for setting, *_ in found}
            heading = line
    assert sorted(found) == sorted(
        (one.setting, one.name, one.works_on, one.summary) for one in catalog()
    )


def test_in_eighty_columns_no_word_is_cut_and_what_goes_on_stands_below_its_beginning(
    told, monkeypatch
):
    lines = shown(told, monkeypatch)
    assert max(map(len, lines)) <= 80
    whole = " ".join(" ".join(lines).split())
    for one in catalog():
        assert f"{one.name} {one.works_on} {one.summary}" in whole
    named = {one.name for one in catalog()}
    rows = [line for line in lines if line[:3].strip() and line[0] == " "]
    begins = {line.index(re.split(r"\s{2,}", line.strip())[2]) for line in rows}
    goes_on = {len(line) - len(line.lstrip()) for line in lines if line.startswith("     ")}
    assert len(begins) == 1
    assert goes_on <= begins
    assert sum(line.split()[:1] != [] and line.split()[0] in named for line in lines) == len(named)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_named_says_all_of_itself(told, monkeypatch, name):
    (one,) = (one for one in catalog() if one.name == name)
    for words in ([name], ["--options"]):
        text = " ".join(" ".join(shown(told, monkeypatch, *words)).split())
        assert (
            f"{name} ({one.setting}) {one.summary} paper: {one.paper} works on: {one.works_on}"
            in text
        )
        for option, value in one.options.items():
            assert f"--{option.replace('_', '-')} {value}" in text


def test_a_method_that_there_is_not_is_an_error(told):
    code, _, error = told("methods", "ft", "tnt")
    assert code == 1
    assert "no method 'tnt': there are ft, lp" in error
    assert json.loads(told("methods", "ft", "--json")[1])["methods"].keys() == {"ft"}


def test_methods_of_a_task_alone_are_listed(told, monkeypatch):
    everything = [one.name for one in catalog() if "classification" in one.tasks]
    assert list(json.loads(told("methods", "--task=classification", "--json")[1])["methods"]) == (
        everything
    )
    kinds = {"classification": ("Classification", "Labelling", "Task"), "other": ("Other", "Task")}
    monkeypatch.setattr("adaptune.catalog.tasks", lambda: kinds)
    monkeypatch.setattr("adaptune.commands.methods.tasks", lambda: kinds)
    listed = json.loads(told("methods", "--task=other", "--json")[1])["methods"]
    assert list(listed) == [one.name for one in catalog() if one.task == "Task"]
    assert 0 < len(listed) < len(everything)


def test_brackets_in_what_a_method_says_are_shown_as_they_are(told, monkeypatch):
    odd = [replace(catalog()[0], summary="Take [bold] steps.")]
    monkeypatch.setattr("adaptune.commands.methods.catalog", lambda: odd)
    assert "Take [bold] steps." in told("methods")[1]


@pytest.mark.parametrize("name", METHODS)
def test_json_gives_the_defaults_of_the_signature(told, name):
    code, out, error = told("methods", "--json")
    assert (code, error) == (0, "")
    listed = json.loads(out)["methods"]
    assert list(listed) == list(METHODS)
    options = {key: one.default for key, one in hyperparameters(METHODS[name]).items()}
    assert listed[name]["options"] == options
