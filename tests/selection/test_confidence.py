"""Estimates of accuracy from confidences equal their formulas, and know what they cannot."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize_scalar

from adaptune.selection import SCORES, Evidence, UndefinedScoreError, defined
from adaptune.selection.confidence import (
    average_confidence,
    calibrated_first,
    difference_of_confidences,
    entropy_thresholded,
    threshold,
    thresholded_confidence,
)
from adaptune.selection.temperature import COLDEST, HOTTEST, temperature
from adaptune.types import Outputs

ESTIMATES = [
    average_confidence,
    difference_of_confidences,
    thresholded_confidence,
    entropy_thresholded,
]


def evidence(*, rows=60, val=50, classes=4, noise=1.0, shift=1.0, scale=1.0):
    """A network that errs on ID validation as well, and is less sure of the target."""
    random = torch.Generator().manual_seed(3)

    def draw(count, strength):
        y = torch.arange(count) % classes
        logits = noise * torch.randn(count, classes, generator=random)
        logits[torch.arange(count), y] += 2.0 * strength
        return scale * logits, y

    (target, _), (logits, y) = draw(rows, shift), draw(val, 1.0)
    one = torch.ones(1, 1)
    outputs = Outputs(logits, y, torch.ones(val, 1), torch.arange(val))
    return Evidence(target, torch.ones(rows, 1), torch.ones(classes, 1), outputs, one)


def softmax(logits):
    """Rows of probabilities, in Python's own float64."""
    found = []
    for row in logits.double().tolist():
        top = max(row)
        parts = [math.exp(z - top) for z in row]
        found.append([part / sum(parts) for part in parts])
    return found


def accuracy(given):
    pairs = zip(given.val.logits.tolist(), given.val.y.tolist(), strict=True)
    return sum(row.index(max(row)) == y for row, y in pairs) / len(given.val.y)


def test_confidences_and_their_difference_equal_the_formulas_in_float64():
    given = evidence(shift=0.4)
    here = [max(p) for p in softmax(given.logits)]
    home = [max(p) for p in softmax(given.val.logits)]
    ac, at_home = sum(here) / len(here), sum(home) / len(home)
    assert average_confidence(given) == pytest.approx(100 * ac, abs=1e-10)
    expected = accuracy(given) - (at_home - ac)
    assert difference_of_confidences(given) == pytest.approx(100 * expected, abs=1e-10)


@pytest.mark.parametrize(
    ("score", "sure"),
    [
        (thresholded_confidence, max),
        (entropy_thresholded, lambda p: sum(q * math.log(q) for q in p)),
    ],
    ids=["largest probability", "entropy"],
)
def test_thresholded_confidence_equals_its_formula_in_float64(score, sure):
    given = evidence(shift=0.4)
    home = sorted(sure(p) for p in softmax(given.val.logits))
    wrong = round((1 - accuracy(given)) * len(home))
    assert 0 < wrong < len(home)
    bar = home[wrong]  # as many lie below it as are wrong
    here = [sure(p) for p in softmax(given.logits)]
    expected = 100 * sum(value >= bar for value in here) / len(here)
    assert 0 < expected < 100
    assert score(given) == pytest.approx(expected)


def test_without_a_shift_a_thresholded_confidence_is_the_accuracy_at_home():
    given = evidence()
    same = replace(given, logits=given.val.logits, features=given.val.features)
    assert thresholded_confidence(same) == pytest.approx(100 * accuracy(given))
    assert entropy_thresholded(same) == pytest.approx(100 * accuracy(given))
    assert difference_of_confidences(same) == pytest.approx(100 * accuracy(given))


def test_the_bar_that_all_lie_below_is_infinite_and_of_equal_values_none_is_split():
    values = torch.tensor([0.5, 0.5, 0.5, 0.9])
    assert threshold(values, 4) == math.inf
    assert threshold(values, 0) == 0.5
    assert threshold(values, 3) == pytest.approx(0.9)
    assert threshold(values, 1) == 0.5  # 0 below it are nearer to 1 than 3 are
    assert threshold(values, 2) == pytest.approx(0.9)


def test_the_temperature_has_the_least_loss_there_is():
    given = evidence(scale=7.0)

    def loss(log_heat):
        rows = zip(given.val.logits.double().tolist(), given.val.y.tolist(), strict=True)
        total = 0.0
        for row, y in rows:
            z = [value / math.exp(log_heat) for value in row]
            total += math.log(sum(math.exp(value - z[y]) for value in z))
        return total

    best = minimize_scalar(loss, bounds=(-3, 4), method="bounded", options={"xatol": 1e-9}).x
    assert temperature(given.val.logits, given.val.y) == pytest.approx(math.exp(best), rel=1e-5)


def test_the_temperature_takes_back_whatever_logits_were_multiplied_by():
    one, seven = evidence(), evidence(scale=7.0)
    for score in ESTIMATES:
        expected = calibrated_first(score)(one)
        assert calibrated_first(score)(seven) == pytest.approx(expected, rel=1e-6)
    assert average_confidence(seven) > average_confidence(one) + 5


def test_a_calibrated_network_is_as_sure_at_home_as_it_is_right():
    # With two classes and a margin that does not vary, the best temperature makes it so exactly.
    logits = torch.tensor([[6.0, 0.0]]).repeat(10, 1)
    val = Outputs(logits, torch.tensor([0] * 8 + [1] * 2), torch.ones(10, 1), torch.arange(10))
    given = Evidence(logits, torch.ones(10, 1), torch.ones(2, 1), val, torch.ones(1, 1))
    assert calibrated_first(average_confidence)(given) == pytest.approx(80.0)


def test_temperatures_that_no_loss_bounds_stay_within_bounds():
    right = 3 * torch.eye(3)
    assert temperature(right, torch.arange(3)) == pytest.approx(COLDEST)
    assert temperature(right, (torch.arange(3) + 1) % 3) == pytest.approx(HOTTEST)


@pytest.mark.parametrize("score", ESTIMATES, ids=lambda score: score.__name__)
def test_estimates_are_shares_of_the_target(score):
    lost, fine = evidence(shift=0.0), evidence(shift=2.0)
    assert 0 <= calibrated_first(score)(lost) < calibrated_first(score)(fine) - 20
    assert calibrated_first(score)(fine) <= 100 + 1e-9 or score is difference_of_confidences


def test_what_needs_validation_images_has_no_value_without_them():
    given = evidence()
    none = Outputs(*(part[:0] for part in vars(given.val).values()))
    without = replace(given, val=none)
    unknown = {name for name, score in SCORES.items() if math.isnan(defined(score, without))}
    assert unknown >= {"doc", "atc", "atc-entropy", "confidence-calibrated", "doc-calibrated"}
    assert "confidence" not in unknown
    with pytest.raises(UndefinedScoreError, match="0 rows"):
        thresholded_confidence(without)
