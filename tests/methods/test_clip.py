"""CLIP: the loss by its formula, what learns at which rate, what is locked, the scale's bound."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from pairs import SPACE, TASK, TEXTS, Pairs, cosines, distinct, pair_network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.clip import CLIP
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.joint_parts import sides
from adaptune.tasks.matching import Matching


def trained(method, epochs: int = 6):
    for _ in fit(method, Pairs(count=48), Plan(epochs=epochs, layout="contiguous")):
        pass
    return method


def test_the_loss_is_that_of_the_formula_in_float64():
    method = CLIP(pair_network().double(), TASK).double().eval()
    batch = distinct(3)
    alike = cosines(method.net, batch) / 0.07
    sums = alike.exp()
    wanted = sum(
        -(sums[i, i] / sums[i].sum()).log() - (sums[i, i] / sums[:, i].sum()).log()
        for i in range(3)
    )
    found = method.objective(batch).terms["task"]
    assert found.item() == pytest.approx(wanted.item() / 6, rel=1e-6)


def test_partners_that_are_equal_are_no_negatives():
    method, batch = CLIP(pair_network().double(), TASK).double().eval(), distinct(3)
    batch.labeled.y[2] = batch.labeled.y[1]
    sums = (cosines(method.net, batch) / 0.07).exp()
    left = [[0, 1, 2], [0, 1], [0, 2]]
    wanted = sum(
        -(sums[i, i] / sums[i, left[i]].sum()).log() - (sums[i, i] / sums[left[i], i].sum()).log()
        for i in range(3)
    )
    found = method.objective(batch).terms["task"]
    assert found.item() == pytest.approx(wanted.item() / 6, rel=1e-6)


def test_where_all_are_alike_it_is_the_logarithm_of_how_many_and_it_falls_as_pairs_stand_apart():
    same = torch.ones(4, 3) / 3**0.5
    assert TASK.contrast(same, same).mean().item() == pytest.approx(math.log(4))
    unit = torch.eye(4)
    falls = [TASK.contrast(scale * unit, unit).mean().item() for scale in (1.0, 5.0, 30.0)]
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] < 1e-6


def test_it_finds_texts_of_images_and_not_by_chance():
    data = Pairs()
    assert data.accuracy(trained(CLIP(pair_network(), TASK), 24)) > 90


def test_at_one_rate_for_all_it_is_fine_tuning():
    ours, theirs = (trained(one(pair_network(), TASK), 1) for one in (CLIP, FineTune))
    torch.testing.assert_close(ours.net.state_dict(), theirs.net.state_dict())


def test_parts_learn_at_rates_of_their_own():
    method = CLIP(pair_network(), TASK, lr=0.1, texts=2.0, new=0.5)
    assert [group.rate for group in method.groups()] == [0.1, 0.2, 0.05]
    every = [one for group in method.groups() for one in group.module.parameters()]
    assert len(set(every)) == len(every) == len(list(method.parameters()))


@pytest.mark.parametrize("locked", ["body", "tower"])
def test_what_is_locked_stays_statistics_and_all_and_the_rest_learns(locked):
    method = CLIP(pair_network(), TASK, locked=locked)
    before = deepcopy(method.state_dict())
    trained(method, 2).train()
    moved = {key for key, one in method.state_dict().items() if not torch.equal(one, before[key])}
    held = {"body": "net.body.", "tower": "net.head.tower."}[locked]
    assert moved
    assert not any(key.startswith(held) for key in moved)
    other = {"body": "net.head.tower.", "tower": "net.body."}[locked]
    assert any(key.startswith(other) for key in moved)
    assert not any(one.training for one in sides(method.net)[locked].modules())


def test_a_text_that_reads_texts_alone_has_no_side_to_lock():
    with pytest.raises(ValueError, match="needs texts that have a network of their own"):
        CLIP(pair_network(tower=False), Matching(5), locked="body")
    method = CLIP(pair_network(tower=False), Matching(5))
    assert len(method.groups()) == 2
    assert torch.isfinite(method.net(TEXTS)).all()


def test_batch_norms_follow_the_rows_unless_the_body_is_locked():
    def mean(**options):
        return trained(CLIP(pair_network(), TASK, **options), 1).net.body[1].running_mean

    start = pair_network().body[1].running_mean
    assert not torch.equal(mean(), start)
    assert torch.equal(mean(batchnorm="eval"), start)
    assert torch.equal(mean(locked="body"), start)


def test_the_scale_is_kept_within_its_bound_where_it_still_has_a_gradient():
    method = CLIP(pair_network(), TASK)
    with torch.no_grad():
        method.net.head.log_warmth.fill_(6.0)
    trained(method, 1)
    assert method.net.head.warmth.item() <= 100
    method.net.head(torch.randn(2, method.net.width)).sum().backward()
    assert method.net.head.log_warmth.grad.item() != 0
    assert method.net.head.weight.shape[0] == SPACE
