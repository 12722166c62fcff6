"""Means over domains and seeds, with intervals that speak of other domains too; ranks and wins."""

import random
from statistics import mean, quantiles

import pytest

from adaptune.results.ranking import across, bootstrap, ranks, versus, width
from adaptune.results.row import MeanDistortion, RunRow
from adaptune.results.score import Measure
from adaptune.results.summary import Interval

ACCURACY, MAE = Measure(), Measure("mae", "degrees", "lower")


def run(method, domain, seed, elsewhere, home=90.0, measure=ACCURACY):
    """A run as standings see it."""
    moved = MeanDistortion(0.1, 1.0)
    return RunRow(method, domain, seed, {}, elsewhere, 1.0, measure, home, moved)


def grid(accuracy, methods="ab", domains="xyz", seeds=2):
    """Runs of all methods on all domains with all seeds; ``accuracy`` says how they went."""
    cells = [(m, d, s) for d in domains for s in range(seeds) for m in methods]
    return [run(*cell, accuracy(*cell)) for cell in cells]


def resampled(values, draws=8_000):
    """The two-level bootstrap, one draw after the other."""
    chance, groups = random.Random(1), list(values.values())
    means = []
    for _ in range(draws):
        chosen = chance.choices(groups, k=len(groups))
        means.append(mean(mean(chance.choices(group, k=len(group))) for group in chosen))
    cuts = quantiles(means, n=40)
    return {"mean": mean(map(mean, groups)), "low": cuts[0], "high": cuts[-1]}


@pytest.mark.parametrize(("domains", "seeds"), [(3, 3), (6, 2), (1, 8)])
def test_the_bootstrap_is_that_of_a_plain_loop(domains, seeds):
    chance = random.Random(domains)
    values = {
        f"domain {number}": [chance.gauss(70 + 5 * number, 3) for _ in range(seeds)]
        for number in range(domains)
    }
    ours, loop = bootstrap(values), resampled(values)
    assert ours.mean == pytest.approx(loop["mean"])
    near = 0.05 * (loop["high"] - loop["low"])
    assert ours.low == pytest.approx(loop["low"], abs=near)
    assert ours.high == pytest.approx(loop["high"], abs=near)


def test_domains_with_more_seeds_weigh_no_more_and_resample_over_their_own():
    uneven = {"one": [0.0], "many": [10.0, 20.0, 30.0, 40.0, 50.0]}
    ours, loop = bootstrap(uneven), resampled(uneven)
    assert ours.mean == 15.0
    assert ours.low == loop["low"] == 0.0
    assert ours.high == pytest.approx(loop["high"], abs=1.5)


def test_seeds_that_agree_leave_the_spread_of_domains():
    assert bootstrap({"x": [60.0, 60.0], "y": [80.0, 80.0]}) == Interval(70.0, 60.0, 80.0)
    assert bootstrap({"x": [60.0, 60.0]}) == Interval(60.0, 60.0, 60.0)


def test_the_bootstrap_gives_the_same_interval_every_time():
    values = {"x": [1.0, 4.0, 2.0], "y": [3.0, 9.0, 5.0]}
    assert bootstrap(values) == bootstrap(values)


def test_gaps_are_paired_so_that_what_domains_and_seeds_share_falls_out():
    hard = {"x": 0.0, "y": 20.0, "z": 40.0}
    runs = grid(lambda m, d, s: 50 + hard[d] + 7 * s + 2 * (m == "a"))
    found = versus(runs, "a", "b").ood
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    wide = across(runs)[0].ood
    assert wide.high - wide.low > 20


def test_a_gap_counts_where_both_methods_ran():
    runs = [run("a", "x", 0, 60.0), run("b", "x", 0, 50.0), run("a", "x", 1, 99.0)]
    runs.append(run("b", "y", 0, 1.0))
    found = versus(runs, "a", "b")
    assert found.ood.mean == 10.0
    assert (found.wins, found.ties, found.losses) == (1, 0, 0)


def test_up_to_half_a_point_is_a_tie_and_the_other_side_counts_the_same_matches():
    gaps = {"v": 0.5, "w": -0.5, "x": 0.0, "y": 0.75, "z": -3.0}
    runs = grid(lambda m, d, s: 50 + gaps[d] * (m == "a"), domains="vwxyz", seeds=1)
    one, other = versus(runs, "a", "b"), versus(runs, "b", "a")
    assert (one.wins, one.ties, one.losses) == (1, 3, 1)
    assert (other.wins, other.ties, other.losses) == (1, 3, 1)
    assert one.ood.mean == pytest.approx(-other.ood.mean)


def test_home_and_elsewhere_are_told_apart():
    runs = [run("a", "x", 0, 60.0, home=80.0), run("b", "x", 0, 70.0, home=75.0)]
    found = versus(runs, "a", "b")
    assert (found.id.mean, found.ood.mean) == (5.0, -10.0)
    assert (found.wins, found.losses) == (0, 1)


def test_methods_that_are_level_share_their_mean_place():
    table = {"a": 3.0, "b": 3.0, "c": 3.0, "d": 9.0, "e": 1.0}
    runs = grid(lambda m, d, s: table[m], methods="abcde")
    assert ranks(runs) == {"a": 3.0, "b": 3.0, "c": 3.0, "d": 1.0, "e": 5.0}
    assert ranks(grid(lambda m, d, s: 50.0, methods="abcd")) == dict.fromkeys("abcd", 2.5)


def test_places_are_means_over_matches_and_add_up():
    order = {"x": "abc", "y": "bca", "z": "abc"}
    runs = grid(lambda m, d, s: -order[d].index(m), methods="abc", seeds=1)
    places = ranks(runs)
    assert places == pytest.approx({"a": 5 / 3, "b": 5 / 3, "c": 8 / 3})
    assert sum(places.values()) == pytest.approx(1 + 2 + 3)


def test_the_table_over_domains_has_a_line_a_method_and_a_column_a_domain():
    accuracy = {"x": 40.0, "y": 60.0, "z": 80.0}
    lines = across(grid(lambda m, d, s: accuracy[d] + s + 2 * (m == "b")))
    assert [line.method for line in lines] == ["a", "b"]
    first, second = lines
    means = {domain: cell.mean for domain, cell in first.domains.items()}
    assert means == {"x": 40.5, "y": 60.5, "z": 80.5}
    assert first.ood.mean == pytest.approx(60.5)
    assert (first.seeds, first.rank, second.rank) == (2, 2.0, 1.0)


def test_where_lower_is_better_the_lower_score_wins_and_ranks_first():
    errors = {"a": 1.0, "b": 2.0, "c": 2.0}
    runs = [run(m, d, 0, errors[m], errors[m], MAE) for d in "xy" for m in "abc"]
    assert ranks(runs) == {"a": 1.0, "b": 2.5, "c": 2.5}
    assert [line.rank for line in across(runs)] == [1.0, 2.5, 2.5]
    found = versus(runs, "a", "b")
    assert (found.wins, found.ties, found.losses) == (2, 0, 0)
    assert (found.id.mean, found.ood.mean) == (1.0, 1.0), "a gain is above 0"
    assert across(runs)[0].ood.mean == 1.0, "what was reached is told as it is"


def test_without_points_a_tie_is_half_a_hundredth_of_the_score():
    runs = [run("a", "x", 0, 0.100, measure=MAE), run("b", "x", 0, 0.1004, measure=MAE)]
    assert versus(runs, "a", "b").ties == 1
    runs[1] = run("b", "x", 0, 0.102, measure=MAE)
    assert versus(runs, "a", "b").wins == 1
    assert versus([run("a", "x", 0, 60.0), run("b", "x", 0, 60.4)], "a", "b").ties == 1


def points(*accuracies, first=-4):
    """Accuracies at rates a decade apart, in whatever order."""
    pairs = [(10.0 ** (first + at), accuracy) for at, accuracy in enumerate(accuracies)]
    return random.Random(0).sample(pairs, len(pairs))


@pytest.mark.parametrize(
    ("accuracies", "wide"),
    [
        ((60, 60, 60, 60), 3.0),  # a plateau from edge to edge
        ((20, 60, 58, 57), 2 + 3 / 40),  # to the last rate, and no further
        ((57, 58, 60, 20), 2 + 3 / 40),
        ((10, 60, 10), 3 / 50 + 3 / 50),  # a single peak, interpolated to both sides
        ((50, 60, 58, 48), 3 / 10 + 1 + 1 / 10),  # from the last rate that is within
        ((60, 40, 60, 60), 3 / 20),  # what lies beyond a gap is no part of it; of peaks the first
        ((30, 50, 60), 3 / 10),  # a peak at the edge
    ],
)
def test_width_is_the_unbroken_stretch_around_the_best_in_decades(accuracies, wide):
    assert width(points(*accuracies)) == pytest.approx(wide)


def test_one_rate_has_no_width_and_more_leeway_is_never_narrower():
    assert width([(0.01, 70.0)]) == 0.0
    hill = points(20, 50, 59, 60, 55, 30)
    wide = [width(hill, within=points_) for points_ in (0.5, 1, 3, 8, 20, 50)]
    assert wide == sorted(wide)
    assert wide[-1] == pytest.approx(5.0)
