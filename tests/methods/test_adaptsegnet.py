"""AdaptSegNet: maps of probabilities before a critic, who learns from which term, batch norms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from places import DensePlaces, dense_network
from toy import CLASSES

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.adaptsegnet import AdaptSegNet
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Needs

TASK = Segmentation(len(CLASSES))


def batch() -> Batch:
    data = DensePlaces()
    data.x, data.target = data.x.double(), data.target.double()
    return next(data.batches(Needs(unlabeled=True), 0))


def made(**options: object) -> AdaptSegNet:
    return AdaptSegNet(dense_network(), TASK, hidden=4, **options).double()


def test_the_terms_are_the_papers_in_float64():
    method, some = made(weight=0.3).eval(), batch()
    terms = method.objective(some).terms
    ours, theirs = (
        method.critic(F.interpolate(method.net(side.x), (32, 32), mode="bilinear").softmax(1))
        for side in (some.labeled, some.unlabeled)
    )
    assert ours.shape == (24, 1, 1, 1)
    right = ours.sigmoid().log().mean() + (1 - theirs.sigmoid()).log().mean()
    assert terms["domain"].item() == pytest.approx(-right.item() / 2)
    assert terms["alike"].item() == pytest.approx(-0.3 * theirs.sigmoid().log().mean().item())
    wanted = TASK.loss(method.net(some.labeled.x), some.labeled.y)
    assert terms["task"].item() == pytest.approx(wanted.item())


def test_the_critic_learns_of_its_own_term_alone_and_the_network_of_the_others():
    method, some = made(), batch()
    terms = method.objective(some).terms
    for name, moves in (
        ("task", [True, False]),
        ("alike", [True, False]),
        ("domain", [False, True]),
    ):
        params = [method.net.body[0].weight, method.critic[0].weight]
        found = torch.autograd.grad(terms[name], params, retain_graph=True, allow_unused=True)
        assert [one is not None for one in found] == moves


def test_the_critic_has_a_rate_of_its_own():
    method = made(lr=0.1, judge=0.02)
    rates = {group.module: group.rate for group in method.groups()}
    assert rates == {method.net: 0.1, method.critic: 0.02}


def test_in_train_mode_running_statistics_follow_the_source_then_the_target():
    method, some = made(), batch()
    mean = method.net.body[1].running_mean.clone()
    method.train().objective(some)
    for side in (some.labeled, some.unlabeled):
        mean = 0.9 * mean + 0.1 * method.net.body[0](side.x).mean((0, 2, 3)).detach()
    torch.testing.assert_close(method.net.body[1].running_mean, mean)


def test_without_weight_the_network_is_fine_tuned_where_batch_norms_are_held():
    def weights(make) -> torch.Tensor:
        method = make(dense_network())
        for _ in fit(method, DensePlaces(), Plan(epochs=1, layout="contiguous")):
            pass
        return method.net.body[0].weight

    alone = weights(lambda net: FineTune(net, TASK, batchnorm="eval"))
    none = weights(lambda net: AdaptSegNet(net, TASK, batchnorm="eval", weight=0.0, hidden=2))
    torch.testing.assert_close(alone, none)


def test_the_target_is_labelled_better_than_from_the_source_alone_with_batch_norms_held():
    def reached(make) -> float:
        method, data = make(dense_network()), DensePlaces(tint=0.6)
        for _ in fit(method, data, Plan(epochs=12, layout="contiguous")):
            pass
        return data.accuracy(method)

    options = {"batchnorm": "eval", "judge": 0.3, "hidden": 8}
    alone = reached(lambda net: FineTune(net, TASK, batchnorm="eval"))
    assert reached(lambda net: AdaptSegNet(net, TASK, weight=1.0, **options)) > alone + 4
