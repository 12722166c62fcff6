"""Scores of short answers, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from adaptune.metrics.exact_answers import (
    factoid_row,
    list_row,
    question_scores,
    score_gains,
    yes_no_row,
)


def values(found: dict) -> dict[str, float]:
    return {name: pytest.approx(score.value) for name, score in found.items()}


def test_yes_and_no_by_hand_with_an_answer_that_is_neither():
    # Yes: 2 found of 3 true, 3 said: F1 = 2/3. No: 1 found of 2 true, 1 said: F1 = 2/3.
    pairs = [("yes", "yes"), ("yes", "yes"), ("", "yes"), ("no", "no"), ("yes", "no")]
    rows = [yes_no_row([said] if said else [], truth) for said, truth in pairs]
    assert values(question_scores("yesno", rows)) == {"macro F1": 200 / 3, "accuracy": 60.0}


def test_where_one_answer_is_never_true_nor_said_its_f1_is_zero():
    found = question_scores("yesno", [yes_no_row(["yes"], "yes")] * 3)
    assert values(found) == {"macro F1": 50.0, "accuracy": 100.0}


def test_factoids_by_hand():
    truth = [["BRCA1", "breast cancer 1"]]
    answers = [["brca1"], ["TP53", "Breast  Cancer 1."], [*"abcd", "BRCA1"], [*"abcde", "BRCA1"]]
    rows = [factoid_row(one, truth) for one in [*answers, []]]
    wanted = {"MRR": 100 * (1 + 1 / 2 + 1 / 5) / 5, "strict accuracy": 20.0}
    wanted["lenient accuracy"] = 60.0
    assert values(question_scores("factoid", rows)) == wanted


def test_lists_by_hand_count_a_name_once_and_another_synonym_as_wrong():
    truth = [["a", "alpha"], ["b"], ["c"]]
    rows = [list_row(["A", "b", "x", "a"], truth), list_row(["alpha", "a"], truth)]
    rows.append(list_row([], truth))
    # Of the first 2 of 3 said, 2 of 3 true; of the second 1 of 2, 1 of 3.
    wanted = {"mean F1": 100 * (2 / 3 + 2 / 5) / 3, "mean precision": 100 * (2 / 3 + 1 / 2) / 3}
    wanted["mean recall"] = 100 * (2 / 3 + 1 / 3) / 3
    assert values(question_scores("list", rows)) == wanted


def test_intervals_are_those_of_a_bootstrap_over_questions():
    right = np.arange(200) % 4 != 0
    score = question_scores("factoid", [[float(one)] * 3 for one in right])["strict accuracy"]
    error = 100 * np.sqrt(0.75 * 0.25 / 200)
    assert score.error == pytest.approx(error, rel=0.1)
    assert (score.low, score.high) == pytest.approx((75 - 1.96 * error, 75 + 1.96 * error), abs=1)


def test_a_gain_is_of_pairs_so_that_what_is_alike_does_not_count():
    rows = [yes_no_row([said], "yes") for said in ("yes", "no")] * 40
    assert all(
        (gain.value, gain.low, gain.high) == (0, 0, 0)
        for gain in score_gains("yesno", rows, rows).values()
    )
    better = [yes_no_row(["yes"], "yes")] * 80
    gain = score_gains("yesno", better, rows)["accuracy"]
    assert (gain.value, gain.low > 30) == (50.0, True)
