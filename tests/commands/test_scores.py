"""`--score` says what counts: in training, in tests, in the run's files and for `evaluate`."""

from __future__ import annotations

import json

import pytest
import yaml


@pytest.fixture(scope="module")
def run(fit_words, tmp_path_factory):
    """A run of two classes that is scored by the half total error rate."""
    from adaptune.commands import main

    folder = tmp_path_factory.mktemp("scores") / "run"
    words = ["--method=ft", "--score=hter", "--classes", "dots", "rings", "--ood-images=all"]
    words += ["--val-share=0.3", "--test-share=0.3"]
    assert main([*fit_words, *words, f"--out={folder}"]) == 0
    return folder


def test_tests_go_by_the_threshold_of_validation(run):
    results = json.loads((run / "results.json").read_text())
    assert results["score"] == {"name": "HTER", "unit": "percent", "better": "lower"}
    scores = results["scores"]
    assert not any(one["own"] for one in scores.values())
    assert len({one["threshold"] for one in scores.values()}) == 1
    assert set(scores) == {"id", "sketch"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["val_HTER"] <= 100 for line in lines)
    assert yaml.safe_load((run / "config.yaml").read_text())["score"] == "hter"
    assert "HTER" in (run / "report.html").read_text()


def test_evaluate_scores_as_the_run_does_unless_it_is_told_otherwise(run, told):
    results = json.loads((run / "results.json").read_text())
    code, out, error = told("evaluate", run, "--json")
    assert code == 0, error
    assert json.loads(out)["scores"] == results["scores"]
    found = json.loads(told("evaluate", run, "--score=auc", "--json")[1])
    assert found["score"]["name"] == "AUC"
    assert set(found["scores"]["id"]) >= {"AUC", "low", "high"}


def test_a_run_keeps_what_counts_and_one_of_accuracy_does_not_name_it(run, finished, told):
    code, _, error = told("fit", "--out", run, "--resume", "--epochs=3", "--score=auc")
    assert code == 1
    assert "was begun with score hter" in error
    assert "score" not in yaml.safe_load((finished / "config.yaml").read_text())


def test_hter_of_three_classes_is_refused_before_a_run_begins(fit_words, told, tmp_path):
    code, _, error = told(*fit_words, "--score=hter", f"--out={tmp_path / 'run'}")
    assert code == 1
    assert "--score hter is of two classes, and there are 3" in error
    assert not (tmp_path / "run" / "config.yaml").exists()
