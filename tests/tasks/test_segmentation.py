"""Segmentation: the loss of its places, the bound of its curvature, scores against plain counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adaptune.metrics.places import PlaceTally, mean_overlap, overlaps
from adaptune.ops.conditioning import Spread, largest_moment
from adaptune.ops.places import boundary_scores, labelled_rows, on_grid
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Outputs

K, D = 3, 5
NOTHING = (254, 255)


def masks(count: int, size: tuple[int, int], seed: int = 0, ignored: float = 0.2) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(K, (count, *size), generator=random)
    return torch.where(torch.rand(y.shape, generator=random) < ignored, 255, y).to(torch.uint8)


def blobs(count: int, size: int, seed: int) -> torch.Tensor:
    """Give masks whose classes lie in patches, as boundaries need them."""
    return (
        masks(count, (size // 6, size // 6), seed, 0.1)
        .repeat_interleave(6, 1)
        .repeat_interleave(6, 2)
    )


def test_the_loss_of_an_image_is_the_mean_over_its_places_that_have_a_class():
    y = masks(2, (6, 8))
    y[1, 0, 0] = 254
    output = torch.randn(2, K, 3, 4, dtype=torch.float64)
    fine = F.interpolate(output, (6, 8), mode="bilinear", align_corners=False)
    wanted = []
    for logits, mask in zip(fine, y, strict=True):
        terms = [
            math.log(sum(math.exp(v) for v in logits[:, i, j].tolist()))
            - float(logits[int(mask[i, j]), i, j])
            for i in range(6)
            for j in range(8)
            if int(mask[i, j]) not in NOTHING
        ]
        wanted.append(sum(terms) / len(terms))
    found = Segmentation(K).losses(output, y)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    assert Segmentation(K).loss(output, y) == found.mean()


def test_an_image_without_a_class_counts_as_a_row_of_loss_zero_and_pulls_nothing():
    y = masks(2, (4, 4))
    y[1] = 255
    output = torch.randn(2, K, 4, 4, requires_grad=True)
    loss = Segmentation(K).loss(output, y)
    alone = Segmentation(K).loss(output[:1], y[:1])
    torch.testing.assert_close(loss, alone / 2)
    loss.backward()
    assert not output.grad[1].any()


def test_outputs_of_no_places_are_refused():
    with pytest.raises(ValueError, match="keeps places apart"):
        Segmentation(K).loss(torch.zeros(2, K), masks(2, (4, 4)))
    with pytest.raises(ValueError, match="3 classes at every place"):
        Segmentation(K).tally().add(given(torch.zeros(2, 4, 2, 2), masks(2, (4, 4))))


def test_a_grid_is_filled_by_means_of_neighbours():
    output = torch.rand(1, 1, 3, 5)
    fine = on_grid(output, (12, 20))
    assert output.min() <= fine.min() <= fine.max() <= output.max()
    torch.testing.assert_close(fine.mean(), output.mean())
    assert on_grid(output, (3, 5)) is output


def curvature(features: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> float:
    """Give the largest eigenvalue of the loss's Hessian in a linear head, by power iteration."""
    task = Segmentation(K)

    def slope(at: torch.Tensor) -> torch.Tensor:
        loss = task.loss(torch.einsum("kd,ndhw->nkhw", at, features), y)
        return torch.autograd.grad(loss, at, create_graph=True)[0]

    at = weight.clone().requires_grad_()
    gradient = slope(at)
    vector, length = torch.randn(weight.shape, dtype=torch.float64), 0.0
    for _ in range(60):
        image = torch.autograd.grad(gradient, at, vector / vector.norm(), retain_graph=True)[0]
        vector, length = image, float(image.norm())
    return length


def moment(features: torch.Tensor) -> float:
    """Give the largest eigenvalue of E[z z'] as DAFT's conditioned head measures it."""
    spread = Spread()
    spread(None, features)
    scatter = spread.pooled()
    return largest_moment(scatter, torch.ones(D, dtype=torch.float64))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_curvature_is_at_most_half_the_largest_moment_of_the_features(factor):
    random = torch.Generator().manual_seed(factor)
    features = torch.randn(6, D, 4, 4, generator=random, dtype=torch.float64)
    features[:, 0] *= 4
    features -= features.mean((0, 2, 3), keepdim=True)
    y = masks(6, (4 * factor, 4 * factor), ignored=0)
    bound = Segmentation.curvature * moment(features)
    for scale in (0.0, 0.3):
        weight = scale * torch.randn(K, D, generator=random, dtype=torch.float64)
        found = curvature(features, y, weight)
        assert found <= bound * (1 + 1e-9)
    assert curvature(features, y, torch.zeros(K, D).double()) > 0.05 * bound


def test_with_ignored_places_the_curvature_is_bounded_by_the_moment_of_those_that_are_asked():
    """Where places of large features alone are asked, the bound is theirs, not that of all."""
    features = torch.randn(4, D, 8, 8, dtype=torch.float64) * 0.1
    features[:, :, :2] += torch.randn(4, D, 2, 8, dtype=torch.float64) * 3
    y = masks(4, (8, 8), ignored=0)
    y[:, 2:] = 255
    asked = features[:, :, :2].movedim(1, -1).reshape(-1, D)
    bound = 0.5 * float(torch.linalg.eigvalsh(asked.T @ asked / len(asked))[-1])
    found = curvature(features, y, torch.zeros(K, D).double())
    whole = features.movedim(1, -1).reshape(-1, D)
    assert 0.5 * float(torch.linalg.eigvalsh(whole.T @ whole / len(whole))[-1]) < found <= bound


def given(logits: torch.Tensor, y: torch.Tensor, start: int = 0) -> Outputs:
    return Outputs(logits, y, logits, torch.arange(start, start + len(y)))


def some(count: int = 12, size: int = 24) -> Outputs:
    random = torch.Generator().manual_seed(5)
    y = blobs(count, size, seed=3)
    y[2:3] = 255
    sure = F.one_hot(y.long().clamp_max(K - 1), K).movedim(3, 1).float()
    logits = F.avg_pool2d(sure, 3) + 0.4 * torch.randn(
        count, K, size // 3, size // 3, generator=random
    )
    return given(logits, y)


def told(size: int, outputs: Outputs | None = None) -> PlaceTally:
    """Show a set to a tally in batches."""
    outputs = outputs or some()
    tally = PlaceTally(K)
    for at in torch.arange(len(outputs.y)).split(size):
        tally.add(outputs.at(at))
    tally.merge()
    return tally


def test_scores_are_those_of_plain_counts_by_numpy():
    outputs, scores = some(), told(12).scores()
    guess = on_grid(outputs.logits, outputs.y.shape[1:]).argmax(1).numpy()
    y = outputs.y.numpy()
    asked = y < K
    wanted = np.zeros((K, K), int)
    for a in range(K):
        for b in range(K):
            wanted[a, b] = ((y == a) & (guess == b)).sum()
    assert [list(row) for row in scores.detail["confusion"]] == wanted.tolist()
    iou = [
        ((y == c) & (guess == c)).sum() / (asked & ((y == c) | (guess == c))).sum()
        for c in range(K)
    ]
    dice = [2 * i / (1 + i) for i in iou]
    assert scores.detail["iou"] == pytest.approx([100 * one for one in iou])
    assert scores.detail["dice"] == pytest.approx([100 * one for one in dice])
    assert scores.main.value == pytest.approx(100 * np.mean(iou))
    assert scores.detail["mean_dice"] == pytest.approx(100 * np.mean(dice))
    assert scores.detail["pixel_accuracy"] == pytest.approx(100 * (guess == y)[asked].mean())
    assert scores.detail["unasked"] == (~asked).sum()
    assert scores.detail["empty"] == 1
    assert scores.loss == pytest.approx(float(Segmentation(K).loss(outputs.logits, outputs.y)))
    assert (scores.count, scores.main.name, scores.main.unit) == (12, "mIoU", "percent")


def test_any_batches_come_to_the_same_to_the_bit():
    for size in (1, 3, 12):
        assert told(size).scores() == told(5).scores()


def test_its_memory_is_three_numbers_a_class_and_image():
    tally = told(4)
    assert tally.counts.count == 12 * 3 * K
    assert tally.counts.room.dtype == torch.int32
    kept = [tally.losses, tally.index, tally.counts, tally.boundary]
    assert sum(one.values().nbytes for one in kept) == 12 * (12 * K + 16)


def test_classes_that_are_nowhere_have_no_score_and_count_in_no_mean():
    y = torch.zeros(2, 4, 4, dtype=torch.uint8)
    logits = torch.zeros(2, K, 4, 4)
    logits[:, 0] = 1
    scores = told(2, given(logits, y)).scores()
    assert scores.detail["iou"] == (100.0, None, None)
    assert scores.main.value == 100
    assert scores.detail["boundary_f1"] is None
    logits[0, 1] = 2
    assert told(2, given(logits, y)).scores().detail["iou"] == (50.0, 0.0, None)


def test_a_set_that_asks_nothing_cannot_be_scored():
    y = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    with pytest.raises(ValueError, match="no place could be scored"):
        told(2, given(torch.zeros(2, K, 4, 4), y)).scores()
    with pytest.raises(ValueError, match="no place could be scored"):
        PlaceTally(K).scores()


def test_the_interval_is_a_bootstrap_over_images():
    """Its error is that of the mean over images where all images hold one class, of equal size."""
    random = np.random.default_rng(1)
    met = random.integers(40, 100, 300)
    counts = np.stack([met, np.full(300, 100), met], 1)[:, None]
    score = mean_overlap(counts)
    wanted = 100 * (met / 100).std() / math.sqrt(300)
    assert score.error == pytest.approx(wanted, rel=0.1)
    assert score.low < score.value < score.high
    assert score.high - score.low == pytest.approx(4 * 0.98 * wanted, rel=0.1)
    alone = mean_overlap(counts[:1])
    assert alone.low == alone.value == alone.high
    assert overlaps(counts.sum(0))[0] * 100 == pytest.approx(score.value)


def plain_boundary(guess: np.ndarray, y: np.ndarray, reach: float) -> float:
    """Transcribe the definition for one image, place by place."""
    height, width = y.shape
    asked = y < K

    def edge(labels, i, j):
        steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
        near = [(i + a, j + b) for a, b in steps if 0 <= i + a < height and 0 <= j + b < width]
        return asked[i, j] and any(asked[p] and labels[p] != labels[i, j] for p in near)

    every = [(i, j) for i in range(height) for j in range(width)]
    scores = []
    for c in range(K):
        sets = [[p for p in every if labels[p] == c and edge(labels, *p)] for labels in (guess, y)]
        if not any(sets):
            continue
        shares = []
        for own, other in (sets, sets[::-1]):
            near = [any(math.dist(p, q) <= reach for q in other) for p in own]
            shares.append(np.mean(near) if near else 0.0)
        total = sum(shares)
        scores.append(2 * shares[0] * shares[1] / total if total else 0.0)
    return float(np.mean(scores)) if scores else math.nan


@pytest.mark.parametrize("tolerance", [0.0075, 0.08])
def test_boundary_scores_are_those_of_the_definition(tolerance):
    y, guess = blobs(4, 18, seed=2), blobs(4, 18, seed=3).clamp_max(K - 1).long()
    guess[0], y[3] = y[0].clamp_max(K - 1), 1
    guess[3] = 1
    reach = max(1.0, tolerance * 18 * 2**0.5)
    found = boundary_scores(guess, y, K, tolerance=tolerance)
    wanted = [plain_boundary(g.numpy(), t.numpy(), reach) for g, t in zip(guess, y, strict=True)]
    assert found.tolist() == pytest.approx(wanted, nan_ok=True)
    assert math.isnan(wanted[3])


def test_rows_for_a_probe_have_the_label_at_their_centre_and_say_of_which_image_they_are():
    y = masks(3, (8, 8), ignored=0.3)
    features = y[:, 1::2, 1::2].float().unsqueeze(1)  # nearest-exact of two by two is the second
    rows, labels, row = labelled_rows(features, y, K, most=9)
    assert torch.equal(rows.flatten().long(), labels)
    assert labels.max() < K
    assert row.unique().tolist() == [0, 1, 2]
    assert len(labels) < 27
    flat = labelled_rows(torch.zeros(3, D), torch.tensor([0, 1, 2]), K, most=9)
    assert flat[1].tolist() == flat[2].tolist() == [0, 1, 2]
