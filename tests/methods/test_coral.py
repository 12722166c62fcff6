"""Deep CORAL: the distance by its formula, what it aligns, the target learnt."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, TwoDomains, network, source_alone, target_mean

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.unsupervised.coral import CORAL
from adaptune.ops.covariances import covariance_distance
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Needs

TASK = Classification(len(CLASSES))


def batch() -> Batch:
    found = next(TwoDomains().batches(Needs(unlabeled=True), 0))
    for side in (found.labeled, found.unlabeled):
        object.__setattr__(side, "x", side.x.double())
    return found


def covariance(rows):
    """By the paper: (D^T D - (1^T D)^T (1^T D) / n) / (n - 1)."""
    n, one = len(rows), torch.ones(1, len(rows), dtype=rows.dtype)
    return (rows.T @ rows - (one @ rows).T @ (one @ rows) / n) / (n - 1)


@pytest.mark.parametrize("layer", ["logits", "features"])
def test_the_terms_are_the_formula_in_float64(layer):
    method, rows = CORAL(network(), TASK, weight=0.7, layer=layer).double().eval(), batch()
    read = method.net if layer == "logits" else method.net.body
    ours, theirs = (covariance(read(side.x)) for side in (rows.labeled, rows.unlabeled))
    d = 3 if layer == "logits" else 12
    wanted = 0.7 * (ours - theirs).pow(2).sum() / (4 * d * d)
    terms = method.objective(rows).terms
    torch.testing.assert_close(terms["covariances"], wanted)
    picked = method.net(rows.labeled.x).log_softmax(1)[torch.arange(24), rows.labeled.y]
    torch.testing.assert_close(terms["task"], -picked.mean())


def test_the_distance_is_none_of_a_shift_and_of_a_single_row_and_does_not_depend_on_the_order():
    x = torch.randn(6, 4).double()
    assert covariance_distance(x, x + 3).item() == pytest.approx(0, abs=1e-20)
    assert covariance_distance(x[:1], x[1:2]) == 0
    torch.testing.assert_close(
        covariance_distance(x, 2 * x), covariance_distance(x[torch.randperm(6)], 2 * x)
    )


def test_two_passes_leave_statistics_that_followed_both_domains():
    method, rows = CORAL(network(), TASK).double(), batch()
    norm = method.train().net.body[1]
    with torch.no_grad():
        means = [method.net.body[0](s.x).mean((0, 2, 3)) for s in (rows.labeled, rows.unlabeled)]
    before = norm.running_mean.clone()
    method.objective(rows)
    expected = 0.9 * (0.9 * before + 0.1 * means[0]) + 0.1 * means[1]
    torch.testing.assert_close(norm.running_mean, expected)


def test_without_weight_it_learns_the_labels_alone_and_with_it_covariances_agree():
    found = {}
    for weight in (0.0, 1.0):
        method, data = CORAL(network(), TASK, weight=weight, batchnorm="eval"), TwoDomains(tint=1.0)
        for _ in fit(method, data, Plan(epochs=6)):
            pass
        with torch.no_grad():
            found[weight] = covariance_distance(method.net(data.x), method.net(data.target))
    assert found[1.0] < 0.5 * found[0.0]


def test_the_target_is_learnt_better_than_from_the_source_alone():
    assert target_mean(lambda net: CORAL(net, TASK)) > source_alone() + 10
