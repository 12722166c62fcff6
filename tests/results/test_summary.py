"""Means over seeds with their intervals, and pairs of methods, whichever way a score is better."""

import math

import pytest

from adaptune.metrics.classification import accuracy
from adaptune.results.run import RunResults
from adaptune.results.score import Measure, Score, Scores
from adaptune.results.summary import Interval, best_method, paired, summarize

MAE = Measure("mae", "degrees", "lower")


def run(method: str, seed: int, own: int, other: int) -> RunResults:
    """A run that got so many of 100 right at home and elsewhere."""
    values = {"id": own, "elsewhere": other}
    scores = {test: Scores(accuracy(value, 100), 1.0, 100) for test, value in values.items()}
    return RunResults(method, seed, 1, scores=scores, seconds=1.0)


def error(method: str, seed: int, value: float) -> RunResults:
    """A run of which less is better."""
    score = Score("mae", value, value, value, unit="degrees", better="lower")
    return RunResults(method, seed, 1, MAE, scores={"elsewhere": Scores(score, 1.0, 100)})


def test_intervals_over_seeds_are_students():
    (line,) = summarize([run("ft", seed, 60 + seed, 40) for seed in range(3)])
    assert line.id.mean == 61.0
    assert line.id.high - 61.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert line.ood == Interval(40.0, 40.0, 40.0)


def test_one_seed_has_the_interval_of_its_images():
    (line,) = summarize([run("ft", 0, 50, 40)])
    assert line.id.high - 50.0 == pytest.approx(9.8)
    share = 0.4 * (1 - 0.4) / 100
    assert line.ood.high == 40.0 + 196 * math.sqrt(share), "to the bit, as it always was"


def test_shares_end_at_0_and_100():
    (line,) = summarize([run("ft", 0, 99, 1)])
    assert (line.id.high, line.ood.low) == (100.0, 0.0)


def test_pairs_compare_the_seeds_that_both_methods_have():
    runs = [run("a", s, 0, 10 + s) for s in range(3)] + [run("b", s, 0, 8) for s in range(2)]
    assert paired(runs, "a", "b", "ood").mean == 2.5
    assert paired(runs[:1] + runs[3:], "a", "b", "ood") is None
    assert paired(runs, "a", "b", "id").mean == 0.0


def test_where_lower_is_better_the_lower_mean_is_the_best_and_its_gap_a_gain():
    runs = [error(name, seed, value) for name, value in (("a", 9.0), ("b", 4.0)) for seed in (0, 1)]
    assert best_method(summarize(runs), MAE) == "b"
    assert paired(runs, "b", "a", "ood") == Interval(5.0, 5.0, 5.0)
    assert best_method(summarize([run("a", 0, 90, 90), run("b", 0, 40, 40)]), Measure()) == "a"
