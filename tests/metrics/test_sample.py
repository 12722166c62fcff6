"""A sample of a set is the same whatever batches it comes in, and a fair one."""

from __future__ import annotations

import pytest
import torch

from adaptune.metrics.sample import Sample, ranks
from adaptune.types import Outputs

COUNT = 5000


def outputs(index: torch.Tensor) -> Outputs:
    features = index.float().unsqueeze(1) / COUNT
    return Outputs(torch.cat([features, -features], 1), index % 7, features, index)


def sampled(size: int, *parts: torch.Tensor) -> Outputs:
    sample = Sample(size)
    for part in parts:
        sample.add(outputs(part))
    sample.merge()
    return sample.outputs()


@pytest.mark.parametrize("batch", [1, 64, 4096])
def test_it_depends_neither_on_batches_nor_on_their_order(batch):
    rows = torch.arange(COUNT)
    whole = sampled(300, rows)
    parts = sampled(300, *rows.flip(0).split(batch))
    assert len(whole.y) == 300
    for name in ("logits", "y", "features", "index"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_a_set_that_is_small_is_kept_whole_and_in_order():
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert sampled(300, *rows.split(7)).index.tolist() == list(range(40))


def test_it_is_spread_over_the_set():
    index = sampled(300, torch.arange(COUNT)).index.double()
    assert abs(float(index.mean()) / COUNT - 0.5) < 3 / (12 * 300) ** 0.5
    assert float(index.std()) / COUNT == pytest.approx(12**-0.5, abs=0.03)


def test_what_is_not_there_moves_no_other_row():
    rows = torch.arange(COUNT)
    whole, fewer = sampled(300, rows), sampled(300, rows[rows % 10 != 0])
    kept = whole.index[whole.index % 10 != 0]
    assert torch.isin(kept, fewer.index).all()


def test_no_two_rows_have_one_rank():
    assert ranks(torch.arange(100_000)).unique().numel() == 100_000
