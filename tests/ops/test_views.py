"""Views: each image by its own draw, as far as is said and no further."""

from __future__ import annotations

import pytest
import torch

from adaptune.ops import views
from adaptune.ops.views import random_view


def test_each_image_has_a_draw_of_its_own_and_the_seed_decides_it():
    x = torch.randn(1, 3, 16, 16).expand(4, -1, -1, -1)
    torch.manual_seed(0)
    first = random_view(x)
    assert not torch.allclose(first[0], first[1])
    torch.manual_seed(0)
    assert torch.equal(first, random_view(x))


def test_without_any_change_a_view_is_the_image_or_its_mirror_in_float64(monkeypatch):
    for name in ("TURN", "MOVE", "SCALE", "CONTRAST", "BRIGHTNESS", "SATURATION", "NOISE"):
        monkeypatch.setattr(views, name, 0.0)
    x = torch.randn(32, 3, 9, 12, dtype=torch.float64)
    torch.manual_seed(0)
    found = random_view(x)
    mirrored = [torch.allclose(one, was.flip(-1)) for one, was in zip(found, x, strict=True)]
    for one, was, other in zip(found, x, mirrored, strict=True):
        assert other or torch.allclose(one, was)
    assert 6 < sum(mirrored) < 26


def test_an_even_image_stays_even_and_its_brightness_changes_little():
    torch.manual_seed(0)
    found = random_view(torch.full((64, 3, 8, 8), 2.0))
    assert found.std((1, 2, 3)).max() < 0.01
    assert (found.mean((1, 2, 3)) - 2).abs().max() < views.BRIGHTNESS + 0.01


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="views are of images"):
        random_view(torch.zeros(2, 5))
