"""Balanced accuracy, macro F1, AUC and HTER: against other code, their bounds and intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score, roc_curve

from adaptune.metrics.class_scores import BINS, REACH, OddsHistogram, log_odds, macro_f1
from adaptune.metrics.classification import ClassTally
from adaptune.tasks.classification import Classification
from adaptune.types import Outputs

NAMES = ["balanced-accuracy", "macro-f1", "auc", "hter"]


def outputs(rows: int, classes: int, seed: int = 0, spread: float = 2.0) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (rows,), generator=random)
    y[: rows // 3] = 0
    logits = spread * torch.randn(rows, classes, generator=random)
    logits[torch.arange(rows), y] += spread
    return Outputs(logits, y, logits, torch.arange(rows))


def told(score: str, seen: Outputs, size: int = 33, threshold: float | None = None):
    tally = ClassTally(seen.logits.shape[1], score=score, threshold=threshold)
    for at in torch.arange(len(seen.y)).split(size):
        tally.add(seen.at(at))
    return tally.scores()


@pytest.mark.parametrize("classes", [2, 5])
def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn(classes):
    seen = outputs(200, classes)
    y, guess = seen.y.numpy(), seen.logits.argmax(1).numpy()
    found = told("balanced-accuracy", seen).main.value
    assert found == pytest.approx(100 * balanced_accuracy_score(y, guess))
    wanted = 100 * f1_score(y, guess, average="macro")
    assert told("macro-f1", seen).main.value == pytest.approx(wanted)


def test_classes_that_are_not_there_do_not_count():
    confusion = torch.tensor([[4, 0, 0], [1, 3, 0], [0, 0, 0]])
    rows = [(0, 0)] * 4 + [(1, 0)] + [(1, 1)] * 3
    wanted = 100 * f1_score(*zip(*rows, strict=True), average="macro")
    assert macro_f1(confusion).value == pytest.approx(wanted)


@pytest.mark.parametrize("spread", [0.5, 3.0, 60.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_auc_is_that_of_scikit_learn_within_the_bound_of_its_bins(classes, spread):
    seen = outputs(400, classes, spread=spread)
    odds, y = log_odds(seen.logits), seen.y.numpy()
    ranks = [roc_auc_score(y == k, odds[:, k]) for k in range(classes)]
    held = OddsHistogram(classes)
    held.add(seen.logits, seen.y)
    bounds = []
    for one in held.counts.double():
        bounds.append(float((one[0] * one[1]).sum() / one.sum(1).prod() / 2))
    value = told("auc", seen).main.value
    assert abs(value - 100 * np.mean(ranks)) <= 100 * np.mean(bounds) + 1e-9
    assert np.mean(bounds) < 2e-3


def test_log_odds_are_exact_where_a_class_is_nearly_certain():
    found = log_odds(torch.tensor([[300.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    rest = math.log(1 + math.e)
    assert found[0].tolist() == pytest.approx([300 - rest, -300, -299])
    assert found[1].tolist() == pytest.approx([-math.log(2)] * 3)


def test_the_error_of_auc_is_delongs():
    seen = outputs(60, 2, spread=1.0)
    odds, y = log_odds(seen.logits)[:, 1].tolist(), seen.y.tolist()
    own = [o for o, k in zip(odds, y, strict=True) if k]
    others = [o for o, k in zip(odds, y, strict=True) if not k]
    placed = [[float(a > b) for b in others] for a in own]
    rows, columns = np.mean(placed, 1), np.mean(placed, 0)
    wanted = math.sqrt(rows.var(ddof=1) / len(own) + columns.var(ddof=1) / len(others))
    main = told("auc", seen).main
    assert main.error == pytest.approx(100 * wanted, rel=0.01)
    assert main.low == pytest.approx(main.value - 1.96 * main.error)


def test_hter_is_the_equal_error_rate_of_the_set_or_the_mean_error_at_a_threshold():
    seen = outputs(600, 2)
    odds, y = log_odds(seen.logits)[:, 1], seen.y
    wrong, right, _ = roc_curve(y, odds)
    equal = np.argmin(np.abs(wrong - (1 - right)))
    found = told("hter", seen)
    assert found.main.value == pytest.approx(100 * (wrong + 1 - right)[equal] / 2, abs=0.5)
    assert found.main.better == "lower"
    assert found.detail["own"]
    edge = round((math.asinh(0.7) + REACH) * BINS / 2 / REACH)
    threshold = math.sinh(edge * 2 * REACH / BINS - REACH)
    at = told("hter", seen, threshold=threshold)
    rates = [float((odds[y == 0] >= threshold).double().mean())]
    rates += [float((odds[y == 1] < threshold).double().mean())]
    assert at.main.value == pytest.approx(100 * sum(rates) / 2)
    assert at.detail["threshold"] == threshold
    assert not at.detail["own"]


def test_a_task_settles_on_the_threshold_of_validation():
    task = Classification(2, score="hter")
    val, test = outputs(300, 2), outputs(300, 2, seed=1)
    test = Outputs(test.logits + torch.tensor([0.0, 3.0]), test.y, test.features, test.index)
    found = {}
    for name, one in (("val", val), ("own", test)):
        tally = task.tally()
        tally.add(one)
        found[name] = tally.scores()
    tally = task.settled(found["val"]).tally()
    tally.add(test)
    moved = tally.scores()
    assert moved.detail["threshold"] == found["val"].detail["threshold"]
    assert moved.main.value > found["own"].main.value + 3
    assert task.threshold is None
    assert Classification(2).settled(found["val"]) != task
    assert not Classification(2).settles


@pytest.mark.parametrize("score", NAMES)
def test_intervals_hold_the_value_and_the_truth_about_as_often_as_they_say(score):
    whole = told(score, outputs(20_000, 2, seed=99, spread=0.7)).main.value
    held = 0
    for seed in range(40):
        main = told(score, outputs(90, 2, seed=seed, spread=0.7), size=90).main
        assert main.low <= main.value <= main.high
        held += main.low <= whole <= main.high
    assert held >= 33


@pytest.mark.parametrize("score", ["auc", "hter"])
def test_a_set_of_one_class_alone_is_refused_with_what_to_do(score):
    seen = outputs(9, 2)
    seen = Outputs(seen.logits, torch.zeros_like(seen.y), seen.features, seen.index)
    with pytest.raises(ValueError, match="give --score accuracy"):
        told(score, seen)


def test_only_accuracy_keeps_which_rows_are_right_and_memory_does_not_grow():
    assert "right" in told("accuracy", outputs(20, 2)).detail
    for score in NAMES:
        assert "right" not in told(score, outputs(20, 2)).detail
    assert OddsHistogram(3).counts.numel() == 3 * 2 * BINS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": "recall"}, "no score 'recall': there are accuracy"),
        ({"score": "auc", "unknown": True}, "leave out --open-set"),
        ({"score": "hter"}, "--score hter is of two classes, and there are 3"),
    ],
)
def test_a_task_refuses_scores_that_it_cannot_have(options, said):
    with pytest.raises(ValueError, match=said):
        Classification(3, **options)
