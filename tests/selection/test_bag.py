"""Scores of several networks at once equal their formulas, and choose what the truth would."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from adaptune.results.answers import Answers, read_answers
from adaptune.results.run import RunResults
from adaptune.results.score import Score, Scores
from adaptune.selection import UndefinedScoreError, rank_agreement
from adaptune.selection.bag import (
    BAG_SCORES,
    Bag,
    agreement,
    bag_scores,
    majority,
    on_the_line,
    on_the_line_by_pairs,
)
from adaptune.studies.oracle import oracle_gaps, with_agreement

CLASSES = 6


def answers(y, error, seed):
    """Answers that are wrong with this chance, each wrong class as likely."""
    random = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(y), generator=random) < error
    off = torch.randint(1, CLASSES, y.shape, generator=random)
    return torch.where(wrong, (y + off) % CLASSES, y)


def bag(errors, *, harder=1.8, rows=400):
    """Networks that err so often at home, and more often on the target; and the target's truth."""
    y, truth = torch.arange(rows) % CLASSES, torch.arange(rows + 50) % CLASSES
    val = torch.stack([answers(y, error, seed) for seed, error in enumerate(errors)])
    there = [answers(truth, harder * error, 100 + seed) for seed, error in enumerate(errors)]
    target = torch.stack(there)
    accuracies = [100 * float(share) for share in (target == truth).double().mean(1)]
    return Bag(target, val, y), accuracies


ERRORS = (0.05, 0.1, 0.15, 0.25, 0.35, 0.45)


@pytest.fixture(scope="module")
def some():
    return bag(ERRORS)


def share(one, other):
    return sum(a == b for a, b in zip(one.tolist(), other.tolist(), strict=True)) / len(one)


def test_agreement_is_the_mean_over_all_others(some):
    rows = some[0].target
    for i, found in enumerate(agreement(some[0])):
        others = [share(rows[i], rows[j]) for j in range(len(rows)) if j != i]
        assert found == pytest.approx(100 * sum(others) / len(others))


def test_majority_is_agreement_with_the_class_that_most_networks_give(some):
    rows = some[0].target
    voted = []
    for column in rows.T.tolist():
        counts = [column.count(k) for k in range(CLASSES)]
        voted.append(counts.index(max(counts)))
    expected = [100 * share(row, torch.tensor(voted)) for row in rows]
    assert majority(some[0]) == pytest.approx(expected)


def quantile(value, rows):
    edge = 0.5 / rows
    return NormalDist().inv_cdf(min(max(value, edge), 1 - edge))


def line(given):
    """The line of the paper, pair by pair, by NumPy's own least squares."""
    count, pairs = len(given.target), []
    for i in range(count):
        for j in range(i + 1, count):
            here = quantile(share(given.val[i], given.val[j]), given.val.shape[1])
            there = quantile(share(given.target[i], given.target[j]), given.target.shape[1])
            pairs.append((i, j, here, there))
    slope, bias = np.polyfit([p[2] for p in pairs], [p[3] for p in pairs], 1)
    home = [quantile(share(row, given.y), len(given.y)) for row in given.val]
    return pairs, home, slope, bias


def test_the_line_of_agreements_equals_its_formula_in_float64(some):
    _, home, slope, bias = line(some[0])
    expected = [100 * NormalDist().cdf(slope * value + bias) for value in home]
    assert on_the_line(some[0]) == pytest.approx(expected, abs=1e-8)


def test_the_line_by_pairs_solves_the_papers_equations_in_float64(some):
    pairs, home, slope, _ = line(some[0])
    matrix = [[0.5 * (k in (i, j)) for k in range(len(home))] for i, j, *_ in pairs]
    goal = [there + slope * ((home[i] + home[j]) / 2 - here) for i, j, here, there in pairs]
    normal = np.array(matrix).T @ np.array(matrix)
    solved = np.linalg.solve(normal, np.array(matrix).T @ np.array(goal))
    expected = [100 * NormalDist().cdf(value) for value in solved]
    assert on_the_line_by_pairs(some[0]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", BAG_SCORES)
def test_scores_of_a_bag_rank_networks_as_the_truth_does(some, name):
    assert rank_agreement(BAG_SCORES[name](some[0]), some[1]) > 0.9


def test_where_agreement_is_on_the_line_accuracies_are_estimated(some):
    for score in (on_the_line, on_the_line_by_pairs):
        off = [abs(a - b) for a, b in zip(score(some[0]), some[1], strict=True)]
        assert max(off) < 12, score.__name__


def test_networks_that_err_alike_are_taken_for_good_by_agreement_and_not_by_the_line():
    """Three copies of a bad network outvote two good ones; ID validation is what tells."""
    y, rows = torch.arange(300) % CLASSES, 300
    bad, fine = answers(y, 0.5, 1), [answers(y, 0.1, seed) for seed in (2, 3)]
    home_bad, home = answers(y, 0.3, 4), [answers(y, 0.05, seed) for seed in (5, 6)]
    given = Bag(torch.stack([bad, bad, bad, *fine]), torch.stack([home_bad] * 3 + home), y)
    assert len(given.y) == rows
    assert agreement(given)[0] > max(agreement(given)[3:])
    assert majority(given)[0] > max(majority(given)[3:])
    assert min(on_the_line(given)[3:]) > on_the_line(given)[0]


def test_shares_of_all_and_none_are_kept_half_a_row_away():
    y = torch.arange(10) % CLASSES
    val = torch.stack([y, y, (y + 1) % CLASSES])
    found = on_the_line(Bag(val, val, y))
    assert found == pytest.approx([95.0, 95.0, 5.0])


def test_what_cannot_be_said_of_a_bag_is_undefined():
    given, _ = bag(ERRORS[:2])
    assert all(not math.isnan(one["agreement"]) for one in bag_scores(given))
    for score in (on_the_line, on_the_line_by_pairs):
        with pytest.raises(UndefinedScoreError, match="2 networks on 400 rows: at least 3"):
            score(given)
    alone = Bag(given.target[:1], given.val[:1], given.y)
    assert all(math.isnan(value) for value in bag_scores(alone)[0].values())
    same = torch.zeros(3, 5, dtype=torch.int64)
    with pytest.raises(UndefinedScoreError, match="no line goes through one point"):
        on_the_line(Bag(same, same, same[0]))


def test_answers_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"expected \(R, N\) and \(R, 4\)"):
        Bag(torch.zeros(3, 5), torch.zeros(2, 4), torch.zeros(4))


def saved(folder, domain, tests, *, accuracy, labels=(0, 1)):
    """A run with answers beside its config; each names an accuracy for every test set."""
    folder.mkdir()
    score = Score("accuracy", accuracy, 0, 100)
    if tests:
        Answers([0, 1], list(labels), dict.fromkeys(tests, [0, 1, 1])).write(
            folder / "answers.json"
        )
    return RunResults(
        folder.name,
        0,
        0,
        domain=domain,
        config=str(folder / "config.yaml"),
        scores={"x": Scores(score, 0.0, 3)},
        label_free={"x": {"snd": accuracy}},
    )


def test_runs_of_a_domain_agree_with_each_other_and_with_no_others(tmp_path):
    runs = [
        saved(tmp_path / "a", "one", ["x"], accuracy=50.0),
        saved(tmp_path / "b", "one", ["x"], accuracy=60.0),
        saved(tmp_path / "c", "two", ["x"], accuracy=70.0),
        saved(tmp_path / "d", "one", [], accuracy=80.0),
        saved(tmp_path / "e", "one", ["x"], accuracy=90.0, labels=(1, 1)),
    ]
    found = with_agreement(runs)
    assert [one.label_free["x"].get("agreement") for one in found[:2]] == [100.0, 100.0]
    assert math.isnan(found[2].label_free["x"]["agreement"])  # alone in its domain
    assert "agreement" not in found[3].label_free["x"]  # of an earlier version
    assert math.isnan(found[4].label_free["x"]["agreement"])  # validated on other images
    assert runs[0].label_free == {"x": {"snd": 50.0}}
    told = oracle_gaps(found)
    assert told["agreement"]["cases"][0]["chosen"] == "a"  # of equals the first
    assert told["snd"]["chose"] == {"e": 1, "c": 1}


def test_answers_are_read_as_they_were_written(tmp_path):
    answers = Answers([1, 2], [1, 0], {"a b\udcff": [3]})
    answers.write(tmp_path / "answers.json")
    assert read_answers(tmp_path / "answers.json") == answers
    assert read_answers(tmp_path / "nowhere.json") == Answers()
