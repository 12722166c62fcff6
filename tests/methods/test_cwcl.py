"""CWCL: weights of the side that is kept, the loss by its formula, identity is plain contrast."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from pairs import TASK, Pairs, cosines, distinct, pair_network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.clip import CLIP
from adaptune.methods.supervised.cwcl import CWCL, likeness
from adaptune.networks.joint_parts import sides
from adaptune.ops.contrast import weighted_contrast
from adaptune.tasks.matching import Matching


def made(**options) -> CWCL:
    return CWCL(pair_network().double(), TASK, **options).double().eval()


@pytest.mark.parametrize("locked", ["body", "tower"])
def test_the_loss_is_that_of_the_formula_in_float64(locked):
    method, batch = made(locked=locked), distinct(3)
    read = sides(method.net)[locked](batch.labeled.x if locked == "body" else batch.labeled.y)
    alike = cosines(method.net, batch) * method.net.head.warmth
    alike = alike if locked == "body" else alike.T
    total = 0.0
    for i in range(3):
        weights = [
            0.5 + 0.5 * (read[i] @ read[j] / (read[i].norm() * read[j].norm())) for j in range(3)
        ]
        logs = [alike[i, j] - alike[i].exp().sum().log() for j in range(3)]
        total -= sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)
        total -= alike[i, i] - alike[:, i].exp().sum().log()
    found = method.objective(batch).terms["task"]
    assert found.item() == pytest.approx(total.item() / 6, rel=1e-9)


def test_identity_weights_are_plain_contrast(monkeypatch):
    alike = torch.randn(4, 4, dtype=torch.float64)
    plain = torch.nn.functional.cross_entropy(alike, torch.arange(4), reduction="none")
    torch.testing.assert_close(weighted_contrast(alike, torch.eye(4).double()), plain)
    batch, method = distinct(3), made()
    monkeypatch.setattr(
        "adaptune.methods.supervised.cwcl.likeness", lambda features: torch.eye(len(features))
    )
    wanted = CLIP(method.net, TASK).eval().objective(batch).terms["task"]
    found = method.objective(batch).terms["task"]
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_the_order_of_a_batch_changes_nothing_and_weights_are_shares():
    method, batch = made(), distinct(3)
    whole = method.objective(batch).terms["task"].item()
    order = torch.tensor([2, 0, 1])
    for key in ("x", "y"):
        object.__setattr__(batch.labeled, key, getattr(batch.labeled, key)[order])
    assert method.objective(batch).terms["task"].item() == pytest.approx(whole, rel=1e-12)
    weights = likeness(torch.randn(5, 3))
    assert torch.allclose(weights.diagonal(), torch.ones(5))
    assert float(weights.min()) >= 0
    assert torch.allclose(weights, weights.T)


@pytest.mark.parametrize("locked", ["body", "tower"])
def test_the_kept_side_stays_statistics_and_all_and_texts_are_found(locked):
    method = CWCL(pair_network(known=locked == "body"), TASK, locked=locked)
    before = deepcopy(method.state_dict())
    for _ in fit(method, Pairs(count=48), Plan(epochs=24, layout="contiguous")):
        pass
    held = {"body": "net.body.", "tower": "net.head.tower."}[locked]
    now = method.train().state_dict()
    assert all(torch.equal(one, before[key]) for key, one in now.items() if key.startswith(held))
    assert not any(one.training for one in sides(method.net)[locked].modules())
    assert Pairs().accuracy(method) > 80


def test_one_body_that_reads_both_sides_has_none_to_keep():
    with pytest.raises(ValueError, match="cwcl needs texts that have a network of their own"):
        CWCL(pair_network(tower=False), Matching(5))
