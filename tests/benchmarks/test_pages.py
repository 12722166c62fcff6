"""A method's page says what was measured of it, and nothing where nothing was."""

from __future__ import annotations

import json

import pytest

from benchmarks import pages
from benchmarks.comparisons import gains as table

GAIN = {
    "protocol": "settings",
    "setting": "source-free",
    "variant": "shot",
    "base": "shot",
    "against": "source-only",
    "measure": "accuracy",
    "unit": "points",
    "mean": 3.14,
    "low": -1.0,
    "high": 5.2,
    "count": 2,
    "seeds": 3,
    "pairs": [
        {"pair": "noto to openmoji", "value": 45.1, "reference": 42.0},
        {"pair": "openmoji to noto", "value": 40.0, "reference": 41.5},
    ],
}


def written(*gains: dict) -> dict[str, str]:
    return {file.stem: text for file, text in pages.pages(gains).items()}


def test_a_gain_stands_on_its_methods_page_with_its_pairs():
    text = written(GAIN)["shot"]
    assert (
        "source-free, `shot` against `source-only`: accuracy +3.1 (-1.0 to +5.2) over 2 pairs, "
        "3 seeds." in text
    )
    assert "| noto to openmoji | 45.1 | 42.0 | +3.1 |" in text
    assert "| openmoji to noto | 40.0 | 41.5 | -1.5 |" in text


def test_other_methods_say_nothing_of_measurements():
    silent = written()
    told = {name for name, text in written(GAIN).items() if text != silent[name]}
    assert told == {"shot", "README"}
    assert not any("What we measured" in text for text in silent.values())


def test_the_index_has_gains_over_the_source_alone_and_says_of_which_variant_and_part():
    other = {**GAIN, "variant": "shot, 30 epochs", "setting": "open-set", "measure": "h"}
    beside = {**GAIN, "against": "dann", "measure": "known"}
    [line] = [one for one in written(GAIN, other, beside)["README"].splitlines() if "`shot`" in one]
    told = "accuracy +3.1 (-1.0 to +5.2); shot, 30 epochs: h +3.1 (-1.0 to +5.2), open-set"
    assert line.endswith(f"| {told} |")


def test_the_table_of_gains_counts_the_pairs_that_were_won():
    line = (
        "| source-free | `shot` | `source-only` | accuracy, points | +3.1 (-1.0 to +5.2) | 1 of 2 |"
    )
    assert table({"gains": [GAIN]}).splitlines()[-1] == line


def test_nothing_was_measured_before_there_are_results(tmp_path):
    assert pages.measured(tmp_path) == []
    (tmp_path / "settings.json").write_text(json.dumps({"gains": [GAIN]}))
    assert pages.measured(tmp_path) == [GAIN]


def test_gains_of_other_protocols_say_of_which_they_are():
    longer = {**GAIN, "protocol": "settings-long", "mean": 9.0}
    passes = {**GAIN, "protocol": "settings-passes", "setting": "dann", "mean": 8.0}
    found = written(GAIN, longer, passes)
    [line] = [one for one in found["README"].splitlines() if "`shot`" in one]
    told = "accuracy +3.1 (-1.0 to +5.2); accuracy +9.0 (-1.0 to +5.2), 20 epochs of all classes"
    assert line.endswith(f"| {told} |")
    for name in ("settings-long", "settings-passes"):
        assert f"--protocol benchmarks/protocols/{name}.toml`." in found["shot"]
    places = [found["shot"].index(said) for said in ("+3.1", "+9.0", "+8.0")]
    assert places == sorted(places)


def test_the_command_writes_every_page_and_takes_those_of_lost_methods_away(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FOLDER", tmp_path)
    (tmp_path / "gone.md").write_text("of a method that is not listed")
    pages.main()
    assert {file.name for file in tmp_path.iterdir()} == {
        "README.md",
        *(f"{one.name}.md" for one in pages.catalog()),
    }


@pytest.mark.parametrize("setting", pages.SETTINGS)
def test_the_command_of_every_setting_is_one_that_exists(setting):
    from adaptune.commands import COMMANDS

    _, words, page = pages.SETTINGS[setting]
    assert words.split()[1] in COMMANDS
    assert (pages.ROOT / "docs" / f"{page}.md").exists()
