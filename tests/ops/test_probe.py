import pytest
import torch

from adaptune.ops.probe import linear_probe, penalties


def rows(count: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randn(count, width, generator=random)
    x[torch.arange(count), y] += 2.0
    return x, y


def test_more_columns_than_rows_give_the_same_probe_as_the_full_problem():
    x, y = rows(30, 50, 0)
    wide = linear_probe(x, y, x, y, classes=3, cs=[0.1], iterations=2000)
    # Rows repeated ten times at a tenth of C are the same problem, with more rows than columns.
    tall = linear_probe(x.repeat(10, 1), y.repeat(10), x, y, classes=3, cs=[0.01], iterations=2000)
    assert torch.allclose(wide.weight, tall.weight, atol=2e-3)


def test_a_class_without_rows_keeps_a_row_that_never_wins():
    x, y = rows(30, 5, 0)
    kept = y != 1
    probe = linear_probe(x[kept], y[kept], x, y, classes=4, cs=[1.0])
    logits = x[kept] @ probe.weight.T + probe.bias
    assert probe.weight.shape == (4, 5)
    assert set(logits.argmax(1).tolist()) == {0, 2}
    assert not probe.weight[[1, 3]].any()


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
