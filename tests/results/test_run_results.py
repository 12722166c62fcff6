"""What stands in files is read into records and written again as it was, of any version."""

import json
from pathlib import Path

import pytest

from adaptune.results.epoch import EpochMetrics
from adaptune.results.ranking import Versus
from adaptune.results.row import RunRow
from adaptune.results.run import DataSummary, RunResults, read_results
from adaptune.results.score import Measure, Score, Scores
from adaptune.results.summary import MethodSummary, summarize
from adaptune.results.trial import Trial, best_of
from adaptune.runtime.files import to_json

EARLIER = Path(__file__).parent / "earlier"
"""Files that were written before results were records; times and folders are made up."""

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "results"
COMPARISONS = [
    name
    for name in ("ablation", "demo", "digits", "emoji", "rates")
    if (BENCHMARKS / f"{name}.json").exists()
]
MAE = Measure("mae", "degrees", "lower")


def text(value) -> str:
    return json.dumps(to_json(value), indent=1) + "\n"


def as_written(file: Path) -> tuple[str, dict]:
    return file.read_text(), json.loads(file.read_text())


@pytest.mark.parametrize("name", ["open-set", "asked"])
def test_results_of_an_earlier_version_are_written_again_to_the_byte(name):
    before, found = as_written(EARLIER / f"{name}.json")
    again = RunResults.from_dict(found).to_dict()
    assert again.pop("score") == {"name": "accuracy", "unit": "percent", "better": "higher"}
    assert text(again) == before


@pytest.mark.parametrize("name", ["open-set", "asked"])
def test_results_are_the_same_record_and_the_same_bytes_when_they_are_read_again(name, tmp_path):
    known = read_results(EARLIER / f"{name}.json")
    (tmp_path / "results.json").write_text(text(known))
    again = read_results(tmp_path / "results.json")
    assert again == known
    assert text(again) == text(known)


def test_rows_and_lines_of_an_earlier_comparison_are_written_again_to_the_byte():
    before, found = as_written(EARLIER / "comparison.json")
    rows = [RunRow.from_dict(row) for row in found["rows"]]
    lines = [MethodSummary.from_dict(line) for line in found["summary"]]
    assert text({"rows": rows, "summary": lines}) == before


@pytest.mark.parametrize("name", COMPARISONS)
def test_committed_comparisons_are_read_whole(name):
    _, found = as_written(BENCHMARKS / f"{name}.json")
    assert [RunRow.from_dict(row).to_dict() for row in found["rows"]] == found["rows"]
    versus = found.get("versus", [])
    assert [to_json(Versus.from_dict(one)) for one in versus] == versus
    for methods in found.get("tuned", {}).values():
        for one in methods.values():
            trials = [Trial.from_dict(trial, Measure()) for trial in one["trials"]]
            assert to_json(trials) == one["trials"]
            assert best_of(trials).values == one["values"]
    for line in found["summary"]:
        again = MethodSummary.from_dict(line)
        assert {key: to_json(again)[key] for key in line} == line


def regression(**more) -> RunResults:
    """A run of a task whose score is a mean error in degrees."""
    error = Score("mae", 2.0, 1.5, 2.5, 0.25, "degrees", "lower")
    scores = {test: Scores(error, 4.0, 50) for test in ("id", "sketch", "comic")}
    return RunResults("ft", 0, 3, MAE, scores=scores, val=1.0, **more)


def test_another_measure_names_its_own_keys_and_is_read_again():
    run = regression(data=DataSummary(("odd",), {"train": 3}))
    found = to_json(run)
    assert {"id_mae", "ood_mae", "val_mae"} <= found.keys()
    assert not [key for key in found if key.endswith("accuracy")]
    assert found["score"] == {"name": "mae", "unit": "degrees", "better": "lower"}
    assert found["scores"]["id"]["error"] == 0.25
    again = RunResults.from_dict(found)
    assert text(again) == text(run)
    assert again.scores == run.scores
    row = RunRow.from_dict(run.row(Path()).to_dict(), MAE)
    assert (row.home, row.mean_elsewhere, row.measure) == (2.0, 2.0, MAE)


def test_the_interval_of_one_run_is_that_of_its_score_and_may_lie_beyond_100():
    (line,) = summarize([regression(seconds=1.0)])
    assert (line.id.low, line.id.high) == pytest.approx((2.0 - 1.96 * 0.25, 2.0 + 1.96 * 0.25))
    assert line.ood.high - 2.0 == pytest.approx(1.96 * 0.25 / 2**0.5)
    large = Score("mae", 150.0, 140.0, 160.0, 5.0, "degrees", "lower")
    (line,) = summarize([RunResults("ft", 0, 1, MAE, scores={"id": Scores(large, 1.0, 9)})])
    assert line.id.mean == 150.0
    assert line.id.high > 150.0


def test_of_trials_the_one_of_the_better_score_wins_whichever_way_is_better():
    values = (0.5, 0.7, 0.5)
    errors = [Trial(n, {}, "complete", v, 3.0 - n, measure=MAE) for n, v in enumerate(values)]
    assert best_of(errors).number == 2, "of equals the lower loss"
    shares = [Trial(n, {}, "complete", v, 1.0) for n, v in enumerate(values)]
    assert best_of(shares).number == 1
    assert best_of([*errors, Trial(3, {}, "pruned", 0.1, measure=MAE)]).number == 2


def test_a_line_of_metrics_keeps_terms_apart_from_what_judged_the_epoch():
    line = EpochMetrics(2, 3.5, {"task": 0.5, "entropy": 0.25}, 1, 60.0, 0.1, 55.0)
    told = line.to_dict(Measure())
    wanted = ("epoch", "task", "entropy", "skipped", "val_accuracy", "score", "oracle_accuracy")
    assert tuple(told) == (*wanted, "seconds")
    assert EpochMetrics.from_dict(told, Measure()) == line
    assert EpochMetrics.from_dict(line.to_dict(MAE), MAE) == line
    assert line.loss == 0.75
