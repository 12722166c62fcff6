import pytest
import torch
from torch import nn

from adaptune.ops.distortion import (
    BINS,
    feature_distortion,
    histogram,
    linear_cka,
    snapshot,
    weight_change,
)


def test_measures_equal_their_formulas_in_float64():
    x, y = torch.randn(40, 7), torch.randn(40, 7)
    moved = feature_distortion(x, y)
    x, y = x.double(), y.double()
    cosine = (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))
    assert moved.cosine == pytest.approx(float(cosine.mean()), abs=1e-12)
    assert moved.l2 == pytest.approx(float((x - y).square().sum(1).sqrt().mean()), abs=1e-12)
    a, b = x - x.mean(0), y - y.mean(0)
    cka = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert moved.cka == pytest.approx(float(cka), abs=1e-12)


def test_cka_is_the_same_through_kernels_and_through_products():
    x, y = torch.randn(10, 5), torch.randn(10, 9)
    tall = torch.cat([x] * 2), torch.cat([y] * 2)  # as many rows as make the products cheaper
    assert linear_cka(x, y) == pytest.approx(linear_cka(*tall), abs=1e-12)


def test_blocks_of_rows_give_the_measures_of_all_at_once(monkeypatch):
    x, y = torch.randn(50, 5), torch.randn(50, 5)
    whole = feature_distortion(x, y)
    monkeypatch.setattr("adaptune.ops.distortion.BLOCK", 7)
    parts = feature_distortion(x, y)
    assert parts.cka == pytest.approx(whole.cka, abs=1e-12)
    assert (parts.cosine, parts.l2) == (whole.cosine, whole.l2)
    assert parts.l2_histogram == whole.l2_histogram


def test_cka_ignores_rotation_and_scale_but_not_mixing():
    x = torch.randn(50, 4)
    turned = 3 * x @ torch.linalg.qr(torch.randn(4, 4))[0]
    assert linear_cka(x, turned) == pytest.approx(1.0, abs=1e-5)
    assert linear_cka(x, torch.randn(50, 4)) < 0.5
    assert linear_cka(x, torch.ones(50, 4)) == 0.0


def test_histograms_hold_every_row_once():
    x, y = torch.randn(33, 5), torch.randn(33, 5)
    moved = feature_distortion(x, y)
    for bars in (moved.cosine_histogram, moved.l2_histogram):
        assert sum(bars.counts) == 33
        assert len(bars.edges) == BINS + 1
    assert sum(histogram(torch.tensor([-9.0, 9.0]), 0.0, 1.0).counts) == 2


def test_unmoved_features_have_no_distortion():
    x = torch.randn(9, 3)
    moved = feature_distortion(x, x)
    assert (moved.cosine, moved.l2) == (pytest.approx(1.0), 0.0)
    assert moved.l2_histogram.counts[0] == 9


def test_features_of_other_examples_are_refused():
    with pytest.raises(ValueError, match="same examples"):
        feature_distortion(torch.ones(3, 2), torch.ones(4, 2))


def test_weight_change_is_relative_and_by_kind():
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2), nn.GroupNorm(1, 2))
    start = snapshot(net)
    with torch.no_grad():
        net[0].weight.mul_(1.5)
        net[1].running_var.mul_(3.0)
        net[1].bias.add_(torch.tensor([3.0, 4.0]))
    changes = {(c.layer, c.kind): c.change for c in weight_change(start, snapshot(net))}
    assert changes[("0", "convolution")] == pytest.approx(0.5)
    assert changes[("1", "batch-norm variance")] == pytest.approx(2.0)
    assert changes[("1", "batch-norm bias")] == pytest.approx(5.0)  # from zero: absolute
    assert changes[("1", "batch-norm weight")] == 0.0
    assert changes[("2", "linear")] == 0.0
    assert not any(layer == "3" for layer, _ in changes)
