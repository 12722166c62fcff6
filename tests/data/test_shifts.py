"""Made shifts: every change of every family, drawn by row and family alone; edges."""

from __future__ import annotations

import pytest
import torch
from skimage.feature import canny as other_canny

from adaptune.data.shifts import FAMILIES, shifted
from adaptune.ops.edges import canny

CHANGES = [(name, at) for name, changes in FAMILIES.items() for at in range(len(changes))]


def picture(side: int = 24) -> torch.Tensor:
    """Give a picture of a coloured disc before a slope."""
    down, right = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    disc = (down**2 + right**2 < 0.4).float()
    slope = (right + 1) / 4
    return torch.stack([0.9 * disc + slope * (1 - disc), slope, 0.4 * (1 - disc)])


@pytest.mark.parametrize(("family", "at"), CHANGES)
@pytest.mark.parametrize("side", [16, 24])
def test_every_change_gives_another_picture_of_the_same_size(family, at, side):
    x = picture(side)
    torch.manual_seed(0)
    found = FAMILIES[family][at](x.clone()).clamp(0, 1)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.isfinite().all()
    assert (found - x).abs().mean() > 1e-4


def test_there_are_the_papers_ten_families():
    assert len(FAMILIES) == 10


@pytest.mark.parametrize("family", FAMILIES)
def test_row_and_family_alone_decide_and_other_random_numbers_go_on(family):
    x = picture()
    torch.manual_seed(3)
    first, state = shifted(x, family, 7), torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(shifted(x, family, 7), first)
    others = [shifted(x, family, row) for row in range(4)]
    assert len(FAMILIES[family]) == 1 or any(not torch.equal(first, one) for one in others)
    assert first.min() >= 0
    assert first.max() <= 1


def test_edges_are_about_those_of_scikit_image():
    down, right = torch.meshgrid(*[torch.linspace(-1, 1, 40)] * 2, indexing="ij")
    grey = (down**2 + right**2 < 0.4).float()
    x = grey.expand(3, -1, -1)
    wanted = torch.tensor(
        other_canny(grey.numpy(), sigma=1.0, low_threshold=0.1, high_threshold=0.2)
    )
    found = canny(x[None], sigma=1.0, low=0.4, high=0.8)[0, 0] > 0
    near = torch.nn.functional.max_pool2d(wanted[None].float(), 3, 1, 1)[0] > 0
    assert found.sum() > 30
    assert near[found].double().mean() > 0.95
    again = torch.nn.functional.max_pool2d(found[None].float(), 3, 1, 1)[0] > 0
    assert again[wanted].double().mean() > 0.9


def test_weak_edges_count_where_they_touch_a_strong_one_alone():
    x = torch.zeros(1, 3, 9, 12)
    x[:, :, :, 6:] = torch.linspace(0.11, 0.4, 9).view(1, 1, 9, 1)
    x[:, :, :, 2:4] = 0.13
    found = canny(x, sigma=0.0, low=0.4, high=1.2)[0, 0]
    assert found[1:-1, 4:8].sum(1).min() >= 1  # weak at the top, strong at the bottom
    assert found[:, :4].sum() == 0
