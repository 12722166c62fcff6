"""Finished networks are judged as their runs judged themselves, once, and also on corruptions."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from adaptune.data.opening import open_domains
from adaptune.selection import SCORES
from adaptune.selection.bag import BAG_SCORES
from benchmarks import choosing, run
from benchmarks.costs import bags
from benchmarks.costs import choosing as table

CORRUPTIONS = choosing.CORRUPTIONS[:2]

PROTOCOL = """
about = "one tiny domain"
source = "tiny"
seeds = [0]
setting = {backbone = "test_efficientnet", weights = "none", image_size = 32, crop = 1.0}
plan = {epochs = 1}
loading = {batch_size = 16}
variants.ft = {method = "ft", lr = 0.01}
variants."ft, slower" = {method = "ft", lr = 0.001}
variants.lp = {method = "lp"}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory, photos, sketches):
    """Three finished runs of a protocol, and what choosing among them came to."""
    folder = tmp_path_factory.mktemp("work")
    module = ModuleType("benchmarks.sources.tiny")
    module.open_source = lambda data, work: {"noto": partial(_opened, photos, sketches)}
    (folder / "small.toml").write_text(PROTOCOL)
    words = [str(folder / "small.toml"), "--work", str(folder), "--out", str(folder / "results")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, module.__name__, module)
        patched.setattr(choosing, "CORRUPTIONS", CORRUPTIONS)
        run.main(words)
        choosing.main(words)
        patched.setattr(choosing.Home, "judge", None)  # whatever was judged is not judged again
        choosing.main(words)
    return folder


def _opened(photos, sketches, loading):
    return open_domains(photos, {"twemoji": sketches}, loading=loading)


def found(work: Path, name: str) -> dict:
    return json.loads((work / "results" / f"{name}.json").read_text())


def test_networks_are_judged_as_their_runs_were(work):
    for folder in (work / "small" / "noto").iterdir():
        kept = json.loads((folder / "choosing.json").read_text())
        own = json.loads((folder / "results.json").read_text())
        assert kept["truth"]["twemoji"] == own["ood"]["twemoji"]
        told = kept["scores"]["twemoji"]
        assert told.keys() == SCORES.keys()
        for name, score in own["label_free"]["twemoji"].items():
            if score is None or name == "distortion":  # of other random weights to begin with
                continue
            assert told[name] == pytest.approx(score, rel=1e-3, abs=1e-3), name


def test_every_score_chooses_under_every_kind_of_shift(work):
    regimes = found(work, "choosing")["regimes"]
    assert not regimes["photos"]
    for name, cases in {"emoji": 1, "corruptions": len(CORRUPTIONS)}.items():
        assert regimes[name].keys() == {*SCORES, *BAG_SCORES}
        for one in regimes[name].values():
            assert len(one["cases"]) == cases
            assert {case["runs"] for case in one["cases"]} == {3}
        assert all((regimes[name][score]["off"] is not None) for score in choosing.ESTIMATES)
    same = found(work, "small")["selection"]
    for score in ("id-validation", "agreement", "aline-d"):
        assert regimes["emoji"][score]["gap"] == pytest.approx(same[score]["gap"])


def test_the_table_has_a_line_a_score_and_columns_a_kind_of_shift(work):
    lines = table(found(work, "choosing")).splitlines()
    assert len(lines) == 2 + len(SCORES) + len(BAG_SCORES)
    assert lines[0].startswith("| score | emoji: Spearman | gap | within 2 of 1 | off by |")
    assert {line.count("|") for line in lines} == {10}
    lines = bags(found(work, "choosing")).splitlines()
    assert lines[0].startswith("| score | all: Spearman | gap | within 2 of 3 |")
    assert len(lines) == 2 + len(SCORES) + len(BAG_SCORES)
    assert {line.count("|") for line in lines} == {11}


def test_smaller_bags_leave_networks_out(work):
    every, methods, three = found(work, "choosing")["bags"].values()
    pairs = 1 + len(CORRUPTIONS)
    for one in (every, methods, three):
        assert one["id-validation"]["pairs"] == pairs
        assert sum(one["id-validation"]["chose"].values()) == pairs
    assert "ft, slower" not in methods["id-validation"]["chose"]
    assert three["id-validation"]["chose"] == {"ft": pairs}
    assert every["aline-d"]["gap"] is not None
    assert methods["agreement"]["gap"] is not None
    assert (methods["aline-d"]["gap"], three["agreement"]["gap"]) == (None, None)
