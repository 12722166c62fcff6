import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from adaptune.selection import Evidence, UndefinedScoreError, ratio
from adaptune.selection.ratio import PENALTIES, best_penalty, density_ratio, hold_out
from adaptune.selection.risk import (
    controlled_risk,
    deep_embedded_validation,
    errors,
    importance_weighted_validation,
    source_validation,
    weighted_risk,
)
from adaptune.types import Outputs


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def gaussian(random, shift, *, source=400, width=3):
    """Two Gaussian domains ``shift`` apart; the classifier errs where the target lies."""
    direction = torch.eye(width)[0]
    train = torch.randn(source, width, generator=random)
    val = torch.randn(source, width, generator=random)
    features = torch.randn(source, width, generator=random) + shift * direction
    weight = torch.stack([direction, -direction])
    y = (val[:, 0] < 0).long()
    wrong = torch.rand(source, generator=random) < torch.sigmoid(3 * val[:, 0] - 2)
    y[wrong] = 1 - y[wrong]
    outputs = Outputs(val @ weight.T, y, val, torch.arange(source))
    return Evidence(features @ weight.T, features, weight, outputs, train)


def test_validation_is_the_share_that_is_right(random):
    evidence = gaussian(random, 0.0)
    guesses, y = evidence.val.logits.argmax(1).tolist(), evidence.val.y.tolist()
    right = [guess == label for guess, label in zip(guesses, y, strict=True)]
    assert source_validation(evidence) == pytest.approx(100 * sum(right) / len(right))
    assert errors(evidence).tolist() == [1.0 - r for r in right]


def log_odds_by_formula(train, features, points, c):
    """Logistic regression written down: standardise, minimise the penalised log-loss."""
    x = np.concatenate([train, features])
    mean, deviation = x.mean(0), x.std(0)
    x, at = (x - mean) / deviation, (points - mean) / deviation
    sign = np.repeat([-1.0, 1.0], [len(train), len(features)])

    def objective(w):
        return 0.5 * w[1:] @ w[1:] + c * np.logaddexp(0, -sign * (w[0] + x @ w[1:])).sum()

    w = minimize(objective, np.zeros(1 + x.shape[1]), options={"gtol": 1e-6}).x
    return w[0] + at @ w[1:]


@pytest.mark.parametrize("width", [3, 40], ids=["tall", "wide"])
def test_ratio_equals_its_formula_in_float64(monkeypatch, random, width):
    monkeypatch.setattr(ratio, "PENALTIES", (0.05,))
    train = torch.randn(20, width, generator=random).double()
    features = torch.randn(12, width, generator=random).double() + 0.5
    points = torch.randn(7, width, generator=random).double()
    odds = np.exp(log_odds_by_formula(train.numpy(), features.numpy(), points.numpy(), 0.05))
    expected = torch.from_numpy(20 / 12 * odds)
    assert torch.allclose(density_ratio(train, features, points), expected, rtol=1e-3)


def test_ratio_of_two_gaussians_is_near_the_true_one(random):
    train = torch.randn(3000, 2, generator=random)
    features = torch.randn(2000, 2, generator=random) + torch.tensor([1.0, 0.0])
    points = torch.tensor([[-1.0, 0.0], [0.5, 0.0], [2.0, 0.0]])
    truth = (points[:, 0].double() - 0.5).exp()
    assert torch.allclose(density_ratio(train, features, points), truth, rtol=0.15)


def test_domains_that_are_alike_get_the_strongest_penalty_and_others_a_weaker_one(random):
    x = torch.randn(200, 5, generator=random).numpy()
    is_target = np.arange(200) >= 100
    assert best_penalty(np.concatenate([x[:100]] * 2), is_target, seed=0) == PENALTIES[0]
    assert best_penalty(x + 2.0 * is_target[:, None], is_target, seed=0) > PENALTIES[0]


def test_the_penalty_is_chosen_by_rows_of_both_domains():
    is_target = np.arange(15) >= 3
    held = hold_out(is_target, seed=0)
    assert (held[:3].sum(), held[3:].sum()) == (1, 3)
    assert hold_out(np.array([False, False, True, True]), seed=0).sum() == 2


def test_a_feature_that_never_varies_changes_no_ratio(random):
    train, features = torch.randn(30, 3, generator=random), torch.randn(20, 3, generator=random)
    with_bias = density_ratio(
        *(torch.nn.functional.pad(x, (0, 1), value=0.1) for x in (train, features, train))
    )
    assert torch.allclose(with_bias, density_ratio(train, features, train))


def test_weighted_risks_equal_their_formulas_in_float64():
    w, loss = torch.rand(50) * 3, (torch.rand(50) < 0.3).float()
    a, b = w.double().numpy() * loss.double().numpy(), w.double().numpy()
    covariance = np.cov(a, b)
    eta = -covariance[0, 1] / covariance[1, 1]
    assert weighted_risk(w, loss) == pytest.approx(a.mean(), abs=1e-12)
    assert controlled_risk(w, loss) == pytest.approx(a.mean() + eta * b.mean() - eta, abs=1e-12)


def test_without_a_shift_the_weighted_risk_is_the_plain_one(random):
    evidence = gaussian(random, 0.0)
    plain = source_validation(evidence) / 100 - 1
    assert importance_weighted_validation(evidence) == pytest.approx(plain, abs=0.02)
    assert deep_embedded_validation(evidence) == pytest.approx(plain, abs=0.02)


def test_under_a_shift_weighting_foresees_the_errors_of_the_target(random):
    evidence = gaussian(random, 1.0, source=4000)
    outcome = torch.sigmoid(3 * evidence.features[:, 0] - 2).mean()  # as `gaussian` draws errors
    plain = 1 - source_validation(evidence) / 100
    for score in (importance_weighted_validation, deep_embedded_validation):
        assert -score(evidence) == pytest.approx(float(outcome), abs=0.08)
        assert plain < float(outcome) - 0.1


def test_the_control_variate_lowers_the_variance_over_resamples(random):
    plain, controlled = [], []
    for _ in range(300):
        x = torch.randn(200, generator=random).double()
        w = (x - 0.5).exp()  # N(1, 1) over N(0, 1)
        loss = (torch.rand(200, generator=random) < torch.sigmoid(2 * x)).double()
        plain.append(weighted_risk(w, loss))
        controlled.append(controlled_risk(w, loss))
    assert np.var(controlled) < 0.5 * np.var(plain)
    assert np.mean(controlled) == pytest.approx(np.mean(plain), abs=0.02)


def test_the_control_variate_makes_a_constant_loss_exact():
    w = torch.rand(30)
    assert controlled_risk(w, torch.full((30,), 0.25)) == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("level", [1.0, 0.1, 3.0])
def test_weights_without_variance_control_nothing(level):
    w = torch.full((7,), level, dtype=torch.float64)
    w[0] *= 1 + 1e-15  # as rounding would leave it
    loss = torch.tensor([1.0, 0, 0, 1, 0, 0, 0])
    assert controlled_risk(w, loss) == pytest.approx(weighted_risk(w, loss), abs=1e-12)


def test_weights_that_overflow_leave_no_risk():
    for w in (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 1e200], dtype=torch.float64)):
        with pytest.raises(UndefinedScoreError):
            controlled_risk(w, torch.ones(2))


def test_one_image_of_a_domain_tells_no_ratio():
    with pytest.raises(UndefinedScoreError, match="at least 2"):
        density_ratio(torch.randn(9, 2), torch.randn(1, 2), torch.randn(3, 2))
