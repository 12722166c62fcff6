"""Weights of losses by their gradients: against all weights of a grid, in float64."""

from __future__ import annotations

import pytest
import torch

from adaptune.ops.pareto import pareto_weights

STEP = 0.01


def grid() -> torch.Tensor:
    """Give all weights of three losses in steps of `STEP`, (M, 3)."""
    steps = torch.arange(0, 1 + STEP / 2, STEP).double()
    first, second = torch.cartesian_prod(steps, steps).T
    rest = 1 - first - second
    return torch.stack([first, second, rest], -1)[rest > -1e-9].clamp_min(0)


GRID = grid()


def drawn(seed: int, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    slopes = torch.randn(3, size, generator=random, dtype=torch.float64)
    slopes *= torch.tensor([1.0, 0.3, 2.0]).double()[:, None]
    return slopes @ slopes.T, slopes @ torch.randn(size, generator=random, dtype=torch.float64)


def feasible(weights, products, guide, *, guided: bool, slack: float) -> torch.Tensor:
    falls, along = weights @ products, weights @ guide
    if not guided:
        return (falls > -slack).all(1) & (along > min(0, guide.max()) - slack)
    if guide.max() <= 0:
        return (falls > -slack).all(1)
    least = torch.where(guide > 0, -torch.inf, guide)
    least[guide.argmax()] = 0
    return (falls > least - slack).all(1)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("size", [2, 4])
def test_no_weights_of_a_grid_are_better_and_none_of_theirs_is_broken(guided, size):
    tried = 0
    for seed in range(60):
        products, guide = drawn(seed, size)
        found = pareto_weights(products, guide, guided=guided)
        assert found.min() >= 0
        assert found.sum().item() == pytest.approx(1, abs=1e-12)
        allowed = feasible(GRID, products, guide, guided=guided, slack=1e-12)
        if not allowed.any():
            assert (products @ found > -1e-6).all() or guided
            continue
        tried += 1
        assert feasible(found[None], products, guide, guided=guided, slack=1e-6).all()
        value = guide if guided else products.sum(0)
        assert found @ value >= (GRID[allowed] @ value).max() - 1e-6
    assert tried > 30


def test_the_scale_of_the_gradients_does_not_matter():
    products, guide = drawn(3)
    for guided in (True, False):
        one, other = (
            pareto_weights(products * scale, guide * scale, guided=guided) for scale in (1, 2**32)
        )
        assert torch.allclose(one, other, atol=1e-9)


def test_gradients_that_are_alike_and_none_at_all():
    alike = torch.ones(3, 3)
    assert pareto_weights(alike, torch.ones(3), guided=True).sum() == 1
    assert torch.equal(pareto_weights(0 * alike, torch.zeros(3), guided=True), torch.ones(3) / 3)


def test_a_step_between_two_bowls_raises_neither():
    """Two quadratics with other middles: from anywhere the merged way raises none of them."""
    middles = torch.tensor([[1.0, 0.0], [-1.0, 0.5]]).double()
    at = torch.tensor([0.3, 2.0]).double()
    for _ in range(50):
        slopes = at - middles
        weights = pareto_weights(slopes @ slopes.T, slopes @ slopes[0], guided=False)
        way = weights @ slopes
        assert (slopes @ way >= -1e-6).all()
        at = at - 0.1 * way
