"""The modality gap against its formula."""

import pytest
import torch

from adaptune.ops.modality_gap import modality_gap


def test_it_is_the_distance_of_the_means_in_float64():
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(n, 5, generator=draw, dtype=torch.float64) for n in (7, 4))
    ours, theirs = (one / one.norm(dim=1, keepdim=True) for one in (ours, theirs))
    means = [[sum(row[at] for row in one) / len(one) for at in range(5)] for one in (ours, theirs)]
    expected = sum((a - b) ** 2 for a, b in zip(*means, strict=True)) ** 0.5
    assert modality_gap(ours, theirs) == pytest.approx(float(expected), abs=1e-12)
    assert modality_gap(ours, ours) == 0
    assert modality_gap(ours[:1], -ours[:1]) == pytest.approx(2)
