import pytest
import torch

from adaptune.ops.conditioning import Spread, largest_eigenvalue, scatter


@pytest.mark.parametrize("size", [1, 2, 17])
def test_power_iteration_finds_what_the_full_decomposition_finds(size):
    random = torch.randn(size, 40, dtype=torch.float64)
    matrix = random @ random.T
    assert largest_eigenvalue(matrix, 1e-9) == pytest.approx(
        float(torch.linalg.eigvalsh(matrix).max()), rel=1e-4
    )


def test_a_matrix_of_zeros_has_no_curvature():
    assert largest_eigenvalue(torch.zeros(3, 3)) == 0.0


def test_scatter_pools_exactly_in_any_order_of_batches():
    x = 5 + torch.randn(90, 6)
    parts = [scatter(part) for part in x.split(20)]
    pooled = parts[0]
    for part in parts[1:]:
        pooled = pooled.merge(part)
    back = parts[-1]
    for part in parts[-2::-1]:
        back = back.merge(part)
    wanted = x.double().T.cov(correction=0)
    assert torch.allclose(pooled.products / 90, wanted, atol=1e-12)
    assert torch.allclose(back.products, pooled.products, atol=1e-9)


def test_zero_rows_change_nothing():
    x = torch.randn(5, 3)
    both = scatter(x).merge(scatter(torch.empty(0, 3)))
    assert both.count == 5
    assert torch.equal(both.mean, scatter(x).mean)


def test_a_feature_that_never_varies_is_floored_and_never_divides_by_zero():
    x = torch.randn(50, 3)
    x[:, 1] = 2.0
    deviation = scatter(x).deviation(floor=0.05)
    assert float(deviation[1]) == pytest.approx(0.05 * (float(deviation[0] + deviation[2])) / 3)
    assert (scatter(torch.ones(4, 2)).deviation(floor=0.05) == 1).all()


def test_what_was_seen_batch_by_batch_is_pooled_and_nothing_is_an_error():
    x = torch.randn(11, 3)
    spread = Spread()
    with pytest.raises(ValueError, match="no features were seen"):
        spread.pooled()
    spread(None, x[:0])
    with pytest.raises(ValueError, match="no features were seen"):
        spread.pooled()
    for part in x.split(4):
        spread(None, part)
    assert spread.pooled().count == 11
    assert torch.allclose(spread.pooled().products, scatter(x).products)
