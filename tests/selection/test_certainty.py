import math

import numpy as np
import pytest
import torch

from adaptune.selection import Evidence, UndefinedScoreError
from adaptune.selection.certainty import (
    entropy,
    information_maximisation,
    matrix_norm,
    nuclear_norm,
    spectral_share,
)
from adaptune.types import Outputs

CERTAINTY = [entropy, information_maximisation, nuclear_norm, spectral_share, matrix_norm]


def saying(logits):
    """Evidence whose target has these logits; these scores read nothing else."""
    rows, classes = logits.shape
    weight, y = torch.ones(classes, 1), torch.arange(classes)
    return Evidence(
        logits, torch.ones(rows, 1), weight, Outputs(torch.eye(classes), y, weight, y), weight
    )


def softmax(logits):
    rows = [[math.exp(z) for z in row] for row in logits.double().tolist()]
    return np.array([[e / sum(row) for e in row] for row in rows])


def test_entropies_equal_their_formulas_in_float64():
    logits = 2 * torch.randn(30, 5)
    p = softmax(logits)
    mean_entropy = -sum(q * math.log(q) for row in p for q in row) / 30
    of_mean = -sum(q * math.log(q) for q in p.mean(0))
    assert entropy(saying(logits)) == pytest.approx(-mean_entropy, abs=1e-12)
    expected = of_mean - mean_entropy
    assert information_maximisation(saying(logits)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(30, 5), (4, 9)], ids=str)
def test_spectral_scores_equal_their_formulas_in_float64(shape):
    logits = 2 * torch.randn(shape)
    p = softmax(logits)
    values = np.sqrt(np.linalg.eigvalsh(p @ p.T).clip(0))[-min(shape) :]
    largest = math.sqrt(shape[0] * min(shape))
    assert nuclear_norm(saying(logits)) == pytest.approx(values.sum() / largest, abs=1e-6)
    assert spectral_share(saying(logits)) == pytest.approx(-values[-1] / values.sum(), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 40.0], ids=["softrun", "softmax"])
def test_the_matrix_norm_equals_its_formula_in_float64(scale):
    logits = scale * torch.randn(30, 5)
    p, total = softmax(logits), 0.0
    surprise = sum(-math.log(q) for row in p for q in row) / 150
    assert (surprise > 5) == (scale > 1)
    for row, sure in zip(logits.double().tolist(), p, strict=True):
        v = sure if surprise > 5 else [1 + z + z * z / 2 for z in row]
        total += sum((value / sum(v)) ** 4 for value in v)
    assert matrix_norm(saying(logits)) == pytest.approx((total / 150) ** 0.25, abs=1e-12)


def test_softrun_tells_sure_from_surer_where_softmax_does_not():
    one, other = saying(8 * torch.eye(3)), saying(10 * torch.eye(3))
    assert matrix_norm(other, bound=0) - matrix_norm(one, bound=0) < 1e-3
    assert matrix_norm(other, bound=99) - matrix_norm(one, bound=99) > 5e-3


def test_certain_and_balanced_predictions_reach_every_bound():
    best = saying(200 * torch.eye(4).repeat(10, 1))
    assert entropy(best) == pytest.approx(0.0, abs=1e-12)
    assert information_maximisation(best) == pytest.approx(math.log(4))
    assert nuclear_norm(best) == pytest.approx(1.0)
    assert spectral_share(best) == pytest.approx(-1 / 4)


def test_predictions_that_know_nothing_are_the_least_certain():
    unsure = saying(torch.zeros(40, 4))
    assert entropy(unsure) == pytest.approx(-math.log(4))
    assert information_maximisation(unsure) == pytest.approx(0.0, abs=1e-12)
    assert nuclear_norm(unsure) == pytest.approx(1 / 4)
    assert spectral_share(unsure) == pytest.approx(-1.0)


def test_giving_one_class_to_everything_fools_only_the_entropy():
    collapsed = saying(200 * torch.eye(4)[:1].repeat(40, 1))
    assert entropy(collapsed) == pytest.approx(0.0, abs=1e-12)
    assert information_maximisation(collapsed) == pytest.approx(0.0, abs=1e-12)
    assert nuclear_norm(collapsed) == pytest.approx(1 / 2)
    assert spectral_share(collapsed) == pytest.approx(-1.0)


@pytest.mark.parametrize("score", CERTAINTY, ids=lambda score: score.__name__)
def test_certainty_ignores_the_order_of_rows_and_of_classes(score):
    logits = torch.randn(20, 5)
    mixed = logits[torch.randperm(20)][:, torch.randperm(5)]
    assert score(saying(mixed)) == pytest.approx(score(saying(logits)), abs=1e-12)


@pytest.mark.parametrize("score", CERTAINTY, ids=lambda score: score.__name__)
def test_a_network_that_diverged_has_no_certainty(score):
    with pytest.raises(UndefinedScoreError, match="diverged"):
        score(saying(torch.tensor([[0.0, math.nan], [0.0, 1.0]])))
    with pytest.raises(UndefinedScoreError, match="0 rows"):
        score(saying(torch.zeros(0, 2)))
