"""`export` writes a run for other software, with a card of what it is good for."""

from __future__ import annotations

import json

import pytest
import yaml

from adaptune.commands import main


@pytest.fixture(scope="module")
def exported(tmp_path_factory, finished):
    out = tmp_path_factory.mktemp("exported")
    assert main(["export", str(finished), "--format=torchscript", f"--out={out}"]) == 0
    return out


def test_the_card_says_where_it_holds_up(exported, finished):
    card = (exported / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "image-classification"
    results = json.loads((finished / "results.json").read_text())
    for key in ("id_accuracy", "ood_accuracy"):
        assert f"{results[key]:.1f}" in card
    assert "sketch" in card
    assert "`network.ts`" in card


def test_how_to_call_it_stands_beside_it(exported, finished):
    said = json.loads((exported / "export.json").read_text())
    assert (exported / said["file"]).is_file()
    assert said["input"]["shape"] == ["batch", 3, 32, 32]
    assert said["classes"] == json.loads((finished / "results.json").read_text())["classes"]


def test_a_network_alone_has_a_card_without_scores(finished, tmp_path, capsys):
    words = [
        "export",
        str(finished / "best"),
        "--format=safetensors",
        f"--out={tmp_path}",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == 0
    assert "How well" not in (tmp_path / "README.md").read_text()


def test_what_is_no_run_is_said(tmp_path, capsys):
    assert main(["export", str(tmp_path), f"--out={tmp_path / 'out'}"]) == 1
    assert "holds no saved network" in capsys.readouterr().err
