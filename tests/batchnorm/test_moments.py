"""Means and variances of channels are those of all values at once, whatever the layout."""

from functools import reduce

import pytest
import torch
from torch import Tensor

from adaptune.batchnorm.moments import (
    Moments,
    as_one_value,
    from_values,
    merge_across_processes,
    moments,
)
from adaptune.runtime.processes import gather_each

SHAPES = [(50, 5), (12, 5, 30), (6, 5, 8, 9), (3, 5, 4, 6, 7)]
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def of_all(x: Tensor) -> tuple[Tensor, Tensor]:
    rows = x.double().transpose(0, 1).flatten(1)
    variance, mean = torch.var_mean(rows, dim=1)
    return mean, variance


def check(own: Moments, x: Tensor, rtol: float) -> None:
    mean, variance = of_all(x)
    assert own.count == x.numel() // x.shape[1]
    assert own.mean.dtype == own.deviations.dtype == torch.float64
    assert ((own.mean - mean).abs() <= rtol * (mean.abs() + variance.sqrt())).all()
    torch.testing.assert_close(own.variance(), variance, rtol=2 * rtol, atol=0)


def spread(*shape: int) -> Tensor:
    """Channels of very different means and deviations."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_channel = (shape[1],) + (1,) * (len(shape) - 2)
    scale = torch.logspace(-3, 3, shape[1], dtype=torch.float64)
    return x * scale.view(by_channel) + torch.linspace(-2, 2, shape[1]).view(by_channel)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("precision", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_moments_are_those_of_torch_in_float64(shape, precision, rtol):
    x = spread(*shape).to(precision)
    check(moments(x), x, rtol)
    if x.dim() in LAST:
        check(moments(x.contiguous(memory_format=LAST[x.dim()])), x, rtol)


def test_slices_and_transposes_are_read_as_they_look():
    x = spread(40, 6, 10, 10).float()
    check(moments(x[::2, 1:5, :, ::3]), x[::2, 1:5, :, ::3], 1e-6)
    check(moments(x.transpose(2, 3)), x, 1e-6)
    check(moments(spread(6, 40).float().t()), spread(6, 40).float().t(), 1e-6)


def test_long_rows_and_many_tiles_lose_no_digits():
    images = torch.randn(1, 2, 700, 700, generator=torch.Generator().manual_seed(2)) + 1
    check(moments(images), images, 1e-6)
    check(moments(images.contiguous(memory_format=torch.channels_last)), images, 1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_large_mean_does_not_cancel_a_small_deviation(layout):
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    x[:, 1] += 1e4  # a sum of squares in float32 would see no variance at all
    x[:, 2] = 7.0
    own = moments(x.contiguous(memory_format=layout))
    mean, variance = of_all(x)
    torch.testing.assert_close(own.mean, mean, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(own.variance(), variance, rtol=1e-6, atol=0)
    assert own.variance()[2] == 0


def test_merging_is_seeing_all_at_once_in_any_grouping():
    x = spread(101, 4)
    a, b, c = (moments(part) for part in x.split([1, 70, 30]))
    for pooled in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)):
        check(pooled, x, 1e-12)


def test_single_rows_one_after_another_give_the_pooled_variance():
    x = spread(300, 4)
    check(reduce(Moments.merge, map(moments, x.split(1))), x, 1e-11)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0)], ids=str)
def test_no_values_count_for_nothing(shape):
    nothing, some = moments(torch.empty(shape)), moments(spread(9, 3))
    assert nothing.count == 0
    assert nothing.variance().tolist() == [0, 0, 0]
    assert nothing.merge(nothing).count == 0
    for pooled in (nothing.merge(some), some.merge(nothing)):
        check(pooled, spread(9, 3), 1e-12)


def test_one_value_has_a_mean_and_no_variance():
    one = moments(torch.tensor([[3.0, -1.0]]))
    assert (one.count, one.mean.tolist(), one.variance().tolist()) == (1, [3, -1], [0, 0])


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(precision):
    x = (torch.randn(64, 3, 12, 12, generator=torch.Generator().manual_seed(4)) * 400).to(precision)
    check(moments(x), x, 1e-6)  # its squares overflow float16


def test_what_is_not_finite_shows():
    own = moments(torch.tensor([[1.0, float("nan"), float("inf")], [2.0, 0.0, 0.0]]))
    assert own.mean.isfinite().tolist() == [True, False, False]
    assert own.variance().isfinite().tolist() == [True, False, False]


def test_averaging_batches_gives_each_batch_one_voice_and_one_value_batches_none():
    x = spread(50, 4)
    parts = x.split([1, 9, 40])
    averaged = from_values(reduce(Moments.merge, (as_one_value(moments(part)) for part in parts)))
    assert averaged.count == 49
    expected = torch.stack([part.mean(0) for part in parts[1:]]).mean(0)
    torch.testing.assert_close(averaged.mean, expected)
    expected = torch.stack([part.var(0) for part in parts[1:]]).mean(0)
    torch.testing.assert_close(averaged.variance(), expected)


def test_one_process_alone_keeps_what_it_measured():
    own = moments(spread(9, 3))
    assert merge_across_processes(own) is own
    assert [part.tolist() for part in gather_each(torch.arange(2))] == [[0, 1]]
