"""Intervals count in that other test images might have been chosen."""

import random
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest

from adaptune.metrics.classification import accuracy
from adaptune.results.by_test import by_test
from adaptune.results.images import image_luck, pack, unpack
from adaptune.results.ranking import across, versus
from adaptune.results.run import RunResults
from adaptune.results.score import Scores

SHOWN = [f"subject {number}" for number in range(60)]
SUBJECTS = {name: {"id": SHOWN, "one": SHOWN, "two": SHOWN[:40]} for name in "xy"}


def run(method, domain="x", seed=0, **right):
    """A run that was right on the rows that ``right`` says, by test set."""
    scores = {
        test: Scores(accuracy(sum(rows), len(rows)), 1.0, len(rows), {"right": pack(rows)})
        for test, rows in right.items()
    }
    moved = {"id": {"cosine": 0.9, "l2": 1.0}}
    return RunResults(method, seed, 1, scores=scores, distortions=moved, domain=domain, base=method)


def rows(chance, share, count=60):
    return np.array([chance.random() < share for _ in range(count)])


@pytest.fixture
def two():
    """Runs of two methods on two domains with two seeds, right more or less often."""
    chance = random.Random(1)
    return [
        run(
            method,
            domain,
            seed,
            id=rows(chance, share),
            one=rows(chance, share - 0.2),
            two=rows(chance, share - 0.4, 40),
        )
        for domain in "xy"
        for seed in range(2)
        for method, share in (("a", 0.9), ("b", 0.8))
    ]


@pytest.mark.parametrize("count", [1, 7, 8, 60])
def test_what_is_packed_is_unpacked(count):
    right = rows(random.Random(count), 0.5, count)
    assert (unpack(pack(right), count) == right).all()


def redrawn(pairs, draws=4000):
    """The plain bootstrap: subjects drawn again, the same for all test sets; means of two sets."""
    chance, found = random.Random(0), []
    right = [
        [
            [unpack(run.scores[test].detail["right"], run.scores[test].count) for run in pair]
            for test in ("one", "two")
        ]
        for pair in pairs
    ]
    for _ in range(draws):
        drawn = np.array(chance.choices(range(60), k=60))
        found.append(
            [
                np.mean(
                    [
                        100 * (a[at].mean() - b[at].mean())
                        for a, b in cell
                        for at in [drawn[drawn < len(a)]]
                    ]
                )
                for cell in right
            ]
        )
    return np.array(found)


def test_the_luck_of_images_spreads_and_is_shared_as_in_a_bootstrap_of_subjects(two):
    pairs = [tuple(two[at : at + 2]) for at in (0, 2, 4, 6)]
    luck = image_luck({"x": pairs[:2], "y": pairs[2:]}, SUBJECTS, 20_000)
    ours = np.concatenate([luck["x"], luck["y"]], axis=1)
    assert np.abs(ours.mean(0)).max() < 0.2
    wanted = np.cov(redrawn(pairs).T)
    assert np.cov(ours.T) == pytest.approx(wanted, abs=0.12 * wanted.max())


def test_one_test_set_has_the_standard_error_of_a_paired_difference(two):
    a, b = two[:2]
    gap = 100.0 * (
        unpack(a.scores["one"].detail["right"], 60).astype(float)
        - unpack(b.scores["one"].detail["right"], 60)
    )
    luck = image_luck({"x": [(a, b)]}, SUBJECTS, 20_000, ("one",))["x"]
    assert luck.std() == pytest.approx(stdev(gap) / 60**0.5, rel=0.03)


def test_with_one_seed_and_one_domain_the_interval_is_that_of_the_images(two):
    found, bare = versus(two[:2], "a", "b", SUBJECTS), versus(two[:2], "a", "b")
    assert bare.ood.low == bare.ood.high == found.ood.mean
    assert found.ood.high - found.ood.low > 5
    assert found.id.high - found.id.low > 5
    assert (found.images, bare.images) == (60, 0)
    line = next(iter(across(two[:2], SUBJECTS)))
    assert line.id.high - line.id.low > 5
    assert line.domains["x"].high - line.domains["x"].low > 5


def test_images_widen_an_interval_over_domains_and_seeds(two):
    found, bare = versus(two, "a", "b", SUBJECTS).ood, versus(two, "a", "b").ood
    assert found.mean == bare.mean
    assert found.high - found.low > 1.2 * (bare.high - bare.low)


def test_methods_that_are_right_on_the_same_images_are_level_whatever_images_come():
    right = rows(random.Random(2), 0.5)
    same = [run(method, one=right) for method in "ab"]
    gap = versus(same, "a", "b", SUBJECTS).ood
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    "subjects",
    [{}, {"x": {}}, {"x": {"one": SHOWN[:59], "two": SHOWN[:40], "id": SHOWN}}],
)
def test_where_it_is_not_known_what_every_row_shows_images_are_not_counted(two, subjects):
    assert versus(two[:2], "a", "b", subjects).ood == versus(two[:2], "a", "b").ood
    assert versus(two[:2], "a", "b", subjects).images == 0


def test_rows_without_what_was_right_have_no_luck(two):
    bare = [one.row(Path()) for one in two]
    assert versus(bare, "a", "b", SUBJECTS) == versus(bare, "a", "b")


def test_each_test_set_has_the_means_of_all_and_the_gaps_of_the_best(two):
    found = by_test(two, "a", SUBJECTS)
    assert [(one.trained, one.tested) for one in found] == [
        (domain, test) for domain in "xy" for test in ("one", "two")
    ]
    first = found[0]
    own = [one for one in two if one.domain == "x"]
    for name in "ab":
        values = [one.scores["one"].main.value for one in own if one.method == name]
        assert first.reached[name] == pytest.approx(sum(values) / 2)
    gap = first.gaps["b"]
    assert gap.mean == pytest.approx(first.reached["a"] - first.reached["b"])
    assert gap.low < gap.mean < gap.high
    assert type(first).from_dict(first.to_dict()) == first
