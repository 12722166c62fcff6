import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaptune.ops.distortion import feature_distortion
from adaptune.selection import Evidence, UndefinedScoreError
from adaptune.selection import structure as module
from adaptune.selection.certainty import information_maximisation
from adaptune.selection.structure import (
    dispersion,
    distortion,
    hopkins,
    sample_rows,
    soft_neighborhood_density,
    transfer_score,
    uniformity,
)
from adaptune.types import Outputs


def target(logits, features=None, weight=None):
    """Evidence of a target; what these scores do not read is filled in."""
    features = torch.randn(len(logits), 3) if features is None else features
    weight = torch.randn(logits.shape[1], features.shape[1]) if weight is None else weight
    y = torch.arange(len(weight))
    val = Outputs(weight @ weight.T, y, weight, y)
    return Evidence(logits, features, weight, val, features)


def simplex(classes):
    """Rows of a simplex: every angle between two of them is arccos(-1 / (K - 1))."""
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def density(p, temperature):
    """SND as its paper writes it, row by row."""
    q = [row / math.sqrt(sum(v * v for v in row)) for row in p]
    total = 0.0
    for i in range(len(q)):
        similar = [math.exp(q[i] @ q[j] / temperature) for j in range(len(q)) if j != i]
        total -= sum(s / sum(similar) * math.log(s / sum(similar)) for s in similar)
    return total / len(q)


def test_density_equals_its_formula_in_float64():
    logits = 2 * torch.randn(25, 4)
    expected = density(logits.double().softmax(1).numpy(), 0.05)
    assert soft_neighborhood_density(target(logits)) == pytest.approx(expected, abs=1e-10)
    warm = soft_neighborhood_density(target(logits), temperature=0.5)
    assert warm == pytest.approx(density(logits.double().softmax(1).numpy(), 0.5), abs=1e-10)


@pytest.mark.parametrize("block", [1, 7, 25, 100])
def test_density_is_the_same_in_blocks_of_any_size(monkeypatch, block):
    evidence = target(torch.randn(25, 4))
    whole = soft_neighborhood_density(evidence)
    monkeypatch.setattr(module, "BLOCK", block)
    assert soft_neighborhood_density(evidence) == pytest.approx(whole, abs=1e-12)


def test_density_prefers_tight_clusters_to_scattered_predictions():
    tight = 9 * torch.eye(5).repeat(20, 1)
    off = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    scores = [soft_neighborhood_density(target(tight + noise * off)) for noise in (0.1, 2.0, 5.0)]
    assert scores[0] == pytest.approx(math.log(19), abs=0.01)  # 19 others of the same class
    assert scores == sorted(scores, reverse=True)


def test_density_of_a_huge_target_is_that_of_a_fixed_sample(monkeypatch):
    logits = torch.randn(60, 4)
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    once = soft_neighborhood_density(target(logits))
    assert soft_neighborhood_density(target(logits)) == once
    rows = sample_rows(logits, 20)
    assert once == pytest.approx(soft_neighborhood_density(target(rows)), abs=1e-12)
    assert len({tuple(row) for row in rows.tolist()}) == 20


def test_density_needs_a_neighbour():
    with pytest.raises(UndefinedScoreError, match="at least 2"):
        soft_neighborhood_density(target(torch.randn(1, 4)))


def hopkins_by_loops(rows, share):
    """Hopkins' statistic with the same draws, distances one by one."""
    random = torch.Generator().manual_seed(0)
    number = max(1, int(share * len(rows)))
    chosen = torch.randperm(len(rows), generator=random)[:number].tolist()
    unit = torch.rand(number, rows.shape[1], generator=random, dtype=torch.float64).numpy()
    rows = rows.double().numpy()
    points = rows.min(0) + (rows.max(0) - rows.min(0)) * unit
    u = sum(min(np.linalg.norm(point - row) for row in rows) for point in points)
    w = sum(
        min(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i) for i in chosen
    )
    return u / (u + w)


@pytest.mark.parametrize(("count", "share"), [(60, 0.05), (60, 0.5), (5, 0.05)])
def test_hopkins_equals_its_formula_in_float64(count, share):
    rows = torch.randn(count, 6)
    expected = hopkins_by_loops(rows, share)
    assert hopkins(rows, share=share) == pytest.approx(expected, abs=1e-12)


def test_hopkins_of_many_rows_is_that_of_as_many_points_as_are_drawn_at_most(monkeypatch):
    rows = torch.randn(60, 6)
    monkeypatch.setattr(module, "MOST_POINTS", 7)
    monkeypatch.setattr(module, "BLOCK", 3)
    assert hopkins(rows, share=0.5) == pytest.approx(hopkins_by_loops(rows, 7 / 60), abs=1e-12)


def test_hopkins_is_a_half_at_random_and_nearly_one_in_clusters():
    random = torch.Generator().manual_seed(0)
    uniform = torch.rand(4000, 2, generator=random)
    centres = torch.rand(4, 2, generator=random)
    clusters = centres.repeat(1000, 1) + 0.001 * torch.randn(4000, 2, generator=random)
    assert hopkins(uniform) == pytest.approx(0.5, abs=0.06)
    assert hopkins(clusters) > 0.98


def test_hopkins_is_a_function_of_the_rows_and_not_of_their_scale():
    rows = torch.randn(80, 5)
    assert hopkins(rows) == hopkins(rows)
    assert hopkins(rows) == pytest.approx(hopkins(7 * rows - 3), abs=1e-6)
    state = torch.get_rng_state()
    hopkins(rows)
    assert torch.equal(state, torch.get_rng_state())


def test_hopkins_of_equal_rows_is_undefined():
    with pytest.raises(UndefinedScoreError, match="the same"):
        hopkins(torch.ones(9, 3))
    with pytest.raises(UndefinedScoreError, match="at least 2"):
        hopkins(torch.ones(1, 3))


def test_uniformity_equals_its_formula_in_float64():
    weight = torch.randn(6, 4)
    rows = weight.double().numpy()
    best, total = math.acos(-1 / 5), 0.0
    for i in range(6):
        for j in range(6):
            if i != j:
                length = np.linalg.norm(rows[i]) * np.linalg.norm(rows[j])
                total += (math.acos(rows[i] @ rows[j] / length) - best) ** 2
    assert uniformity(weight) == pytest.approx(total / 30, abs=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 29])
def test_classes_that_form_a_simplex_are_evenly_spread(classes):
    turn = torch.linalg.qr(torch.randn(classes, classes, dtype=torch.float64))[0]
    scale = torch.rand(classes, 1) + 0.5
    assert uniformity(scale * simplex(classes) @ turn) == pytest.approx(0.0, abs=1e-12)
    assert uniformity(torch.ones(classes, 4)) == pytest.approx(math.acos(-1 / (classes - 1)) ** 2)


def test_a_class_without_direction_has_no_uniformity():
    with pytest.raises(UndefinedScoreError, match="no direction"):
        uniformity(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_transfer_score_is_the_sum_of_its_three_terms():
    logits, features, weight = torch.randn(50, 4), torch.randn(50, 6), torch.randn(4, 6)
    p = logits.double().softmax(1).numpy()
    mean = p.mean(0)
    entropies = [-sum(q * math.log(q) for q in row) for row in p]
    balance = (sum(entropies) / 50 + sum(q * math.log(q) for q in mean)) / math.log(4)
    expected = hopkins_by_loops(features, 0.05) - balance - uniformity(weight)
    evidence = target(logits, features, weight)
    assert transfer_score(evidence) == pytest.approx(expected, abs=1e-12)


def test_transfer_score_of_an_ideal_network_is_nearly_two():
    classes = 5
    weight = simplex(classes)
    features = weight.repeat(40, 1) + 1e-4 * torch.randn(200, classes)
    evidence = target(200 * features @ weight.T, features, weight)
    assert information_maximisation(evidence) / math.log(classes) == pytest.approx(1.0)
    assert transfer_score(evidence) == pytest.approx(2.0, abs=0.01)


def test_transfer_score_of_one_class_is_undefined():
    with pytest.raises(UndefinedScoreError, match="at least 2"):
        transfer_score(target(torch.randn(9, 1)))


def test_dispersion_equals_its_formula_in_float64():
    logits, features = torch.randn(40, 5), torch.randn(40, 3)
    logits[:, 4] = -9.0  # a class that no row is given counts among the K - 1
    rows, answers = features.double().tolist(), logits.argmax(1).tolist()
    centre = [sum(row[d] for row in rows) / 40 for d in range(3)]
    total = 0.0
    for k in set(answers):
        own = [row for row, answer in zip(rows, answers, strict=True) if answer == k]
        mean = [sum(row[d] for row in own) / len(own) for d in range(3)]
        total += len(own) * sum((mean[d] - centre[d]) ** 2 for d in range(3))
    assert dispersion(target(logits, features)) == pytest.approx(math.log(total / 4), abs=1e-10)


def test_dispersion_grows_as_classes_move_apart_and_ends_where_one_answer_is_all():
    answers, noise = torch.eye(3).repeat(10, 1), 0.1 * torch.randn(30, 3)
    near, far = (dispersion(target(answers, noise + d * answers)) for d in (1.0, 2.0))
    assert far > near + 1
    with pytest.raises(UndefinedScoreError, match="one mean for all answers"):
        dispersion(target(answers[:1].repeat(9, 1), torch.randn(9, 3)))


def test_distortion_is_minus_what_a_run_reports():
    after, before = torch.randn(20, 6), torch.randn(20, 6)
    given = replace(target(torch.randn(20, 4), after), before=before)
    cosines = [
        float(x @ y / x.norm() / y.norm())
        for x, y in zip(before.double(), after.double(), strict=True)
    ]
    assert distortion(given) == pytest.approx(sum(cosines) / 20 - 1, abs=1e-10)
    assert distortion(given) == pytest.approx(feature_distortion(before, after).cosine - 1)
    assert distortion(replace(given, before=after)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(UndefinedScoreError, match="features before training: 0 rows"):
        distortion(replace(given, before=torch.empty(0, 0)))
