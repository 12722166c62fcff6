"""`predict` and `evaluate` answer by distances between labels, seen in training or not."""

from __future__ import annotations

import csv
import json
from shutil import copy, copytree

import pytest


@pytest.fixture
def tree(tmp_path):
    file = tmp_path / "tree.csv"
    file.write_text("child,parent\ndots,round\nrings,round\nstripes,lines\nround,all\nlines,all\n")
    return file


def test_equal_distances_change_no_answer(finished, sketches, tmp_path, told):
    equal = tmp_path / "equal.csv"
    equal.write_text("label,rings,dots,stripes\nrings,0,1,1\ndots,1,0,1\nstripes,1,1,0\n")
    found = []
    for more in ([], ["--label-distances", equal]):
        code, out, error = told(
            "predict", finished, sketches, "--out", tmp_path / "a.csv", "--json", *more
        )
        assert code == 0, error
        found.append(json.loads(out)["rows"])
    assert found[0] == found[1]
    code, out, error = told("evaluate", finished, "--label-distances", equal, "--json")
    assert code == 0, error
    plain = json.loads(told("evaluate", finished, "--json")[1])["scores"]
    for name, one in json.loads(out)["scores"].items():
        for rule in ("frechet_mean", "likeliest_class"):
            assert one[rule]["right"] == pytest.approx(plain[name]["accuracy"])
            assert one[rule]["squared_distance"] == pytest.approx(1 - one[rule]["right"] / 100)
        assert one["squared distance"] == one["frechet_mean"]["squared_distance"]


def test_a_class_that_was_not_trained_is_answered_and_tested(finished, sketches, tmp_path, told):
    between = tmp_path / "between.csv"
    between.write_text("from,to\ndots,waves\nrings,waves\nstripes,waves\n")
    data = copytree(sketches, tmp_path / "with waves")
    (data / "waves").mkdir()
    for number, file in enumerate(sorted((data / "rings").iterdir())):
        copy(file, data / "waves" / f"waves-{number:02}{file.suffix}")
    words = [finished, "--data", f"new={data}", "--label-distances", between]
    code, out, error = told("evaluate", *words, "--json")
    assert code == 0, error
    [one] = json.loads(out)["scores"].values()
    assert one["count"] > len(list((data / "waves").iterdir())), "and those of untrained subjects"
    assert one["frechet_mean"] != one["likeliest_class"]
    assert "new: the Frechet mean is" in error
    out = tmp_path / "labels.csv"
    assert told("predict", finished, data, "--out", out, "--label-distances", between)[0] == 0
    with out.open(newline="") as lines:
        assert "waves" in {line["predicted"] for line in csv.DictReader(lines)}


def test_what_cannot_be_is_said(finished, photos, tree, tmp_path, told):
    for words in (["evaluate", finished, "--open-set"], ["evaluate", finished]):
        gone = tree if "--open-set" in words else tmp_path / "none.csv"
        code, _, error = told(*words, "--label-distances", gone)
        assert code == 1
        assert ("leave it out" if gone == tree else "no distances between labels") in error
    code, _, error = told("evaluate", finished, "--label-distances", tree)
    assert code == 0, error
