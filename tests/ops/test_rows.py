"""Places as rows, and who refuses places."""

from __future__ import annotations

import pytest
import torch

from adaptune.methods.tram import divergence
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.ops.rows import rows
from adaptune.tasks.classification import Classification
from adaptune.types import Outputs

DENSE = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_place_is_a_row_and_rows_stay_the_very_tensor():
    made = rows(DENSE)
    assert made.shape == (3 * 5 * 6, 4)
    assert torch.equal(made[1 * 30 + 2 * 6 + 3], DENSE[1, :, 2, 3])
    assert rows(made) is made


def test_the_entropy_of_a_mean_over_images_alone_is_refused():
    with pytest.raises(ValueError, match=r"one prediction a row, \(N, K\), and got \(3, 4, 5, 6\)"):
        marginal_entropy(DENSE)
    mean = rows(DENSE).softmax(1).mean(0)
    torch.testing.assert_close(marginal_entropy(rows(DENSE)), -(mean * mean.log()).sum())


def test_a_divergence_that_is_divided_by_images_alone_is_refused():
    with pytest.raises(ValueError, match="the divergence of predictions"):
        divergence(DENSE, DENSE.flip(0))
    a, b = rows(DENSE).softmax(1), rows(DENSE.flip(0)).softmax(1)
    expected = (a * (a / b).log()).sum(1).mean()
    torch.testing.assert_close(divergence(a.log(), b.log()), expected)


def test_accuracy_of_places_is_refused_as_one_of_images():
    outputs = Outputs(DENSE, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1), torch.arange(3))
    with pytest.raises(ValueError, match="a score of classes"):
        Classification(4).tally().add(outputs)


def test_the_entropy_of_each_place_needs_no_rows():
    torch.testing.assert_close(entropy(DENSE).flatten(), entropy(rows(DENSE)))
