import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from adaptune.ops.probe import cross_validated_probe, linear_probe, penalties


def rows(count: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randn(count, width, generator=random)
    x[torch.arange(count), y] += 2.0
    return x, y


def test_more_columns_than_rows_give_the_same_probe_as_the_full_problem():
    x, y = rows(30, 50, 0)
    wide = linear_probe(x, y, x, y, classes=3, cs=[0.1])
    # Rows repeated ten times at a tenth of C are the same problem, with more rows than columns.
    tall = linear_probe(x.repeat(10, 1), y.repeat(10), x, y, classes=3, cs=[0.01])
    assert torch.allclose(wide.weight, tall.weight, atol=1e-4)


def test_a_class_without_rows_keeps_a_row_that_never_wins():
    x, y = rows(30, 5, 0)
    kept = y != 1
    probe = linear_probe(x[kept], y[kept], x, y, classes=4, cs=[1.0])
    logits = x[kept] @ probe.weight.T + probe.bias
    assert probe.weight.shape == (4, 5)
    assert set(logits.argmax(1).tolist()) == {0, 2}
    assert not probe.weight[[1, 3]].any()
    assert probe.path[0][1] <= 2 / 3  # a third of the validation rows are of a class unseen


def test_two_classes_give_two_rows_with_the_same_odds():
    x, y = rows(40, 4, 0)
    kept = y < 2
    probe = linear_probe(x[kept], y[kept], x[kept], y[kept], classes=2, cs=[1.0])
    guess = (x[kept] @ probe.weight.T + probe.bias).argmax(1)
    assert (guess == y[kept]).float().mean() > 0.85


def test_penalties_span_the_range_of_the_paper():
    cs = penalties(50)
    assert len(cs) == 50
    assert cs[0] == pytest.approx(1e-7)
    assert cs[-1] == pytest.approx(1e2)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        linear_probe(
            torch.ones(3, 2), torch.zeros(3), torch.ones(1, 2), torch.zeros(1), classes=2, cs=[1.0]
        )


@pytest.mark.parametrize("cs", [[], [0.0], [1.0, -1.0]])
def test_a_penalty_that_is_none_is_refused(cs):
    x, y = rows(9, 3, 0)
    with pytest.raises(ValueError, match="C above zero"):
        linear_probe(x, y, x, y, classes=3, cs=cs)


@pytest.mark.parametrize("side", ["train", "val"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(side, value):
    x, y = rows(9, 3, 0)
    broken = x.clone()
    broken[4, 1] = value
    train, val = (broken, x) if side == "train" else (x, broken)
    with pytest.raises(ValueError, match="must be finite"):
        linear_probe(train, y, val, y, classes=3, cs=[1.0])


def test_equal_accuracy_goes_to_the_smallest_c():
    x, y = rows(60, 5, 0)
    x[torch.arange(60), y] += 10.0
    probe = linear_probe(x, y, x, y, classes=3, cs=[10.0, 1.0, 0.1, 1.0])
    assert probe.path == ((0.1, 1.0), (1.0, 1.0), (10.0, 1.0))
    assert probe.c == 0.1


def test_the_probe_is_the_same_to_the_bit_each_time():
    x, y = rows(50, 70, 0)
    one, other = (linear_probe(x, y, x, y, classes=3, cs=penalties(20)) for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)
    assert one.path == other.path


def test_threads_are_as_before_afterwards_and_after_an_error():
    x, y = rows(30, 5, 0)
    torch.set_num_threads(2)
    try:
        linear_probe(x, y, x, y, classes=3, cs=[1.0])
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="finite"):
            linear_probe(x * torch.inf, y, x, y, classes=3, cs=[1.0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_features_that_remember_gradients_are_taken():
    x, y = rows(30, 5, 0)
    probe = linear_probe(x.requires_grad_(), y, x, y, classes=3, cs=[1.0])
    assert not probe.weight.requires_grad


def test_cross_validation_takes_the_c_that_scikit_learn_s_folds_take():
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(3), [5, 9, 16])
    x = random.normal(size=(30, 40)) + 1.5 * np.eye(3, 40)[y]
    cs = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    part = np.empty(30, int)
    part[y.argsort(kind="stable")] = np.arange(30) % 5
    scale = x.std(ddof=1)
    told = []
    for c in cs:
        losses = 0.0
        for fold in range(5):
            own, deviation = part != fold, x[part != fold].std(ddof=1)
            model = LogisticRegression(C=c, tol=1e-9, max_iter=2000)
            model.fit(x[own] / deviation, y[own])
            said = model.predict_log_proba(x[~own] / deviation)
            losses -= said[np.arange(len(said)), y[~own]].sum()
        told.append(losses / 30)
    best = int(np.argmin(told))
    assert 0 < best < 4
    probe = cross_validated_probe(torch.tensor(x), torch.tensor(y), classes=3, cs=cs)
    assert probe.c == cs[best]
    assert [loss for _, loss in probe.path] == pytest.approx(told, rel=1e-3)
    model = LogisticRegression(C=cs[best], tol=1e-9, max_iter=2000).fit(x / scale, y)
    wanted = model.predict_log_proba(x / scale)
    found = (torch.tensor(x) @ probe.weight.T + probe.bias).log_softmax(1)
    assert np.allclose(found, wanted, atol=5e-3)


def test_a_class_with_one_row_counts_where_it_is_taught_and_not_where_it_is_told():
    x = torch.eye(5).repeat(2, 1)[:9] + 0.1 * torch.randn(9, 5)
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    probe = cross_validated_probe(x, y, classes=6, cs=[1.0, 1e4])
    assert all(math.isfinite(loss) for _, loss in probe.path)
    assert (x @ probe.weight.T + probe.bias).argmax(1).tolist() == y.tolist()


def test_classes_that_are_told_apart_without_error_do_not_ask_for_ever_larger_weights():
    y = torch.arange(60) % 3
    x = 5 * torch.eye(3)[y] + 0.1 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    probe = cross_validated_probe(x, y, classes=3, cs=penalties(19))
    losses = [loss for _, loss in probe.path]
    assert losses == sorted(losses, reverse=True)  # the larger C the better
    [own] = [loss for c, loss in probe.path if c == probe.c]
    assert probe.c < 100
    assert own <= losses[-1] + 0.005
