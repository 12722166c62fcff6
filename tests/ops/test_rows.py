"""Places as rows, and who refuses places."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptune.methods.supervised.tram import divergence
from adaptune.methods.unsupervised.mcd import classifier_discrepancy
from adaptune.ops.adversary import critic, domain_loss
from adaptune.ops.discrepancy import mmd
from adaptune.ops.distortion import feature_distortion, snapshot
from adaptune.ops.information import entropy, marginal_entropy
from adaptune.ops.rows import rows, sample_rows
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


def test_a_divergence_is_the_mean_over_places():
    a, b = rows(DENSE).softmax(1), rows(DENSE.flip(0)).softmax(1)
    expected = (a * (a / b).log()).sum(1).mean()
    torch.testing.assert_close(divergence(a.log(), b.log()), expected)
    torch.testing.assert_close(divergence(DENSE, DENSE.flip(0)), expected)


def test_a_discrepancy_of_kernels_is_of_rows_alone():
    with pytest.raises(ValueError, match="a discrepancy of kernels is of one prediction a row"):
        mmd(DENSE, DENSE)


def test_a_critic_reads_every_place_as_a_row():
    judge = critic(4, 8).double()
    torch.testing.assert_close(rows(judge(DENSE)), judge(rows(DENSE)))
    one, other = judge(DENSE[:1]), judge(DENSE[1:])
    torch.testing.assert_close(domain_loss(one, other), domain_loss(rows(one), rows(other)))


def test_two_heads_are_apart_by_the_mean_over_places():
    wanted = classifier_discrepancy(rows(DENSE), rows(DENSE.flip(0)))
    torch.testing.assert_close(classifier_discrepancy(DENSE, DENSE.flip(0)), wanted)


def test_some_places_are_the_same_of_an_image_in_any_batch_and_few_are_all():
    few = sample_rows(DENSE, most=7)
    assert len(few) == 3 * 6, "two rows of three, of a grid of 5 by 6"
    assert torch.equal(few[6:12], sample_rows(DENSE[1:2], most=7))
    assert torch.equal(sample_rows(DENSE, most=30), rows(DENSE))
    assert len(sample_rows(rows(DENSE), most=2)) == 90


def test_dense_features_are_compared_place_by_place():
    moved = feature_distortion(DENSE, 2 * DENSE)
    assert moved == feature_distortion(rows(DENSE), 2 * rows(DENSE))


def test_linear_layers_and_attention_are_measured_too():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    kinds = {kind for _, kind, _ in snapshot(layer).values()}
    assert kinds == {"linear", "attention"}


def test_accuracy_of_places_is_refused_as_one_of_images():
    outputs = Outputs(DENSE, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 1), torch.arange(3))
    with pytest.raises(ValueError, match="a score of classes"):
        Classification(4).tally().add(outputs)


def test_the_entropy_of_each_place_needs_no_rows():
    torch.testing.assert_close(entropy(DENSE).flatten(), entropy(rows(DENSE)))
