"""What steps cost over those of fine-tuning: every kind of method is stepped, in turn with it."""

from __future__ import annotations

import json

import pytest
import toy

from adaptune.methods import METHODS
from benchmarks import method_costs
from benchmarks.costs import of_methods

SOME = ["ft", "lp", "meta-dmoe", "dann", "shot", "kl-dp", "plug-and-play", "alpha-bn", "tent"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The toy's network and classes, few small images, one round."""
    told = {"CLASSES": 3, "PIXELS": 8, "ROWS": 8, "ROUNDS": 2, "NAMES": toy.CLASSES}
    for name, value in told.items():
        monkeypatch.setattr(method_costs, name, value)
    monkeypatch.setattr(method_costs, "network", lambda places: toy.network())
    monkeypatch.setattr(method_costs, "RESULTS", tmp_path / "method-costs.json")


def test_each_kind_of_method_is_stepped_and_what_takes_no_steps_is_named(small):
    rows, left = method_costs.measured(SOME)
    assert [row["method"] for row in rows] == [name for name in SOME if name != "lp"]
    assert left == {"lp": "it is done before the first step"}
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in rows)
    assert {row["setting"] for row in rows} >= {"supervised", "test-time", "teachers"}


def test_what_is_measured_again_takes_the_place_of_its_row_alone(small, monkeypatch):
    def row(name, ratio):
        said = {"method": name, "setting": "supervised", "on": "images", "ratio": ratio}
        return said | {"low": ratio, "high": ratio, "seconds": 1.0, "ft": 1.0}

    done = []
    monkeypatch.setattr(
        method_costs,
        "measured",
        lambda names: done.append(names) or ([row(n, len(done)) for n in names if n != "lp"], {}),
    )
    method_costs.main([])
    method_costs.main(["sam"])
    assert done == [list(METHODS), ["sam"]]
    found = json.loads(method_costs.RESULTS.read_text())
    ratios = {one["method"]: one["ratio"] for one in found["rows"]}
    assert (ratios["ft"], ratios["sam"]) == (1, 2)
    assert list(ratios) == [name for name in METHODS if name != "lp"]
    table = of_methods(found).splitlines()
    assert table[-1] == "| `sam` | supervised | images | 2.00 (2.00 to 2.00) |"
