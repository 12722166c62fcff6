"""LFTL: which labels are asked for, and what is learnt from them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from toy import CLASSES, TwoDomains, images, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.data import from_datasets
from adaptune.data.annotators import OracleAnnotator
from adaptune.engine.batches import DataOnDevice
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.lftl import LFTL
from adaptune.ops.banks import collect
from adaptune.ops.mixing import mixup, partners
from adaptune.ops.queries import contrastive_margin, margin
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def refreshed(times: int = 1, **options) -> tuple[LFTL, TwoDomains]:
    data = TwoDomains(cast=0.5)
    method = LFTL(trained(), TASK, **{"ask": 20, "rounds": 5} | options)
    method.prepare(data)
    for _ in range(times):
        method.refresh(data)
    return method, data


def test_the_terms_are_the_papers():
    method, data = refreshed(batchnorm="eval", persist=3.0)
    method.double()
    batch = next(iter(data.batches(method.needs, 0)))
    known = method.answers.at(torch.tensor([0, 2, 3]))
    some = replace(batch.unlabeled, x=batch.unlabeled.x.double())
    terms = method.objective(replace(batch, labeled=known, unlabeled=some)).terms
    y = data.truth[known.index]
    own = method.net(known.x).log_softmax(1)[torch.arange(3), y]
    features = method.net.body(some.x)
    p = method.net.head(features).softmax(1)
    mean = p.mean(0)
    anchors = method.answers.anchors[:4]
    near = torch.cosine_similarity(features[:, None], anchors[None], dim=2).softmax(1)
    assert terms["task"].item() == pytest.approx(-own.mean().item())
    assert terms["certain"].item() == pytest.approx(-0.9 * (p * p.log()).sum(1).mean().item())
    assert terms["diverse"].item() == pytest.approx(0.9 * (mean * mean.log()).sum().item())
    assert terms["persist"].item() == pytest.approx(-3 * (near * near.log()).sum(1).mean().item())


def test_the_score_is_the_margin_of_contrasted_predictions_and_how_common_the_class_is():
    torch.manual_seed(0)
    p, before = (3 * torch.randn(2, 50, 4).double()).softmax(2)
    told = contrastive_margin(p, before, 0.03, 0.1, 10)
    contrasted = p + 0.03 * (p - before)
    first = contrasted.sort(1).values
    sure = first[:, -1] - first[:, -2]
    top = sorted(range(50), key=lambda i: -sure[i])[:10]
    counts = torch.tensor([sum(int(p[i].argmax()) == c for i in top) for c in range(4)])
    for i in range(50):
        expected = sure[i] / sure.max() + 0.1 * counts[p[i].argmax()] / counts.max()
        assert told[i].item() == pytest.approx(expected.item())


def test_without_a_round_before_and_weight_for_classes_it_orders_as_the_plain_margin():
    torch.manual_seed(0)
    p = (3 * torch.randn(50, 4).double()).softmax(1)
    assert torch.equal(contrastive_margin(p, p, 0.03, 0.0, 10).argsort(), margin(p).argsort())
    asked = [refreshed(**options)[1].queried for options in ({"common": 0.0}, {"query": "margin"})]
    assert asked[0] == asked[1]


def test_the_classes_that_are_sure_already_are_asked_for_less():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.44, 0.56]])
    assert contrastive_margin(p, p, 0.0, 0.0, 2).argmin() == 2
    assert contrastive_margin(p, p, 0.0, 0.5, 2).argmin() == 3


@pytest.mark.parametrize("query", ["contrastive", "margin", "random"])
def test_no_image_is_asked_for_twice_and_the_budget_is_spent_in_its_rounds(query):
    data, method = TwoDomains(cast=0.5), LFTL(trained(), TASK, ask=23, rounds=4, query=query)
    spent = []
    for _ in fit(method, data, Plan(epochs=6)):
        spent.append(len(data.queried))
    assert spent == [0, 6, 12, 18, 23, 23, 23]
    assert len(set(data.queried)) == 23
    assert method.answers.rows.tolist() == data.queried
    assert torch.equal(method.answers.labels, data.truth[data.queried])
    assert torch.equal(method.answers.images, data.target[data.queried])


def test_a_target_smaller_than_the_budget_is_asked_for_as_a_whole():
    data, method = TwoDomains(count=24), LFTL(trained(), TASK, ask=50, rounds=2)
    for _ in fit(method, data, Plan(epochs=3)):
        pass
    assert sorted(data.queried) == list(range(24))


def test_anchors_follow_the_features_of_their_images():
    method, data = refreshed()
    seen = collect(method.net.body, method.net.head, data.unlabeled())
    first = seen.features[method.answers.rows[:4]]
    assert torch.allclose(method.answers.anchors[:4], 0.9 * first)
    method.refresh(data)
    assert torch.allclose(method.answers.anchors[:4], 0.1 * 0.9 * first + 0.9 * first)
    assert not method.answers.anchors[8:].any()


def test_a_draw_takes_all_answers_before_one_twice_and_none_that_is_not_there():
    method, _ = refreshed()
    places = method.answers.drawn(8)
    assert sorted(places.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_rows_are_mixed_with_others_and_stay_mostly_what_they_are():
    torch.manual_seed(0)
    x, y = torch.randn(40, 2, 3), torch.eye(40)
    share, partner = partners(40)
    found, shares = (mixup(rows, rows[partner], share) for rows in (x, y))
    assert torch.allclose(shares.sum(1), torch.ones(40))
    assert (shares.diagonal() >= 0.5).all()
    assert torch.allclose(found, torch.einsum("nm,mcd->ncd", shares, x), atol=1e-6)
    assert (shares.amax(1) < 1).any()


def test_what_was_asked_is_not_asked_again_on_going_on_within_an_epoch():
    whole = LFTL(trained(), TASK, ask=12, rounds=3)
    states = [
        deepcopy(epoch.state)
        for epoch in fit(whole, TwoDomains(), Plan(epochs=4), pause=lambda: True)
    ]
    data, resumed = TwoDomains(), LFTL(trained(), TASK, ask=12, rounds=3)
    for _ in fit(resumed, data, Plan(epochs=4), state=states[2]):
        pass
    assert len(data.queried) == 8  # those of the second and third round
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_what_is_not_finite_is_said_though_data_serve_no_labelled_rows():
    target = images(30)
    data = from_datasets(*[target] * 3, classes=CLASSES, target=target)
    data = replace(data, answers=OracleAnnotator(target.tensors[1].tolist()))
    method = LFTL(trained(), TASK, ask=12, rounds=2, persist=float("nan"))
    with pytest.raises(NonFiniteError, match="the term 'persist' is nan in epoch 1, step 1"):
        list(fit(method, data, Plan(epochs=1)))


def test_nobody_who_answers_is_an_error():
    x = torch.utils.data.TensorDataset(torch.zeros(2, 3, 8, 8), torch.arange(2))
    data = from_datasets(x, x, x, classes=CLASSES)
    with pytest.raises(ValueError, match="2 images of the target need labels and nobody gives"):
        data.query_labels(torch.arange(2))


def test_answers_come_to_where_the_method_is():
    from lightning_fabric import Fabric

    method, data = refreshed()
    placed = DataOnDevice(data, method, Fabric(accelerator="cpu", devices=1))
    assert placed.query_labels(torch.tensor([5])).tolist() == [data.truth[5]]


@pytest.mark.parametrize(("epochs", "said"), [(2, True), (3, False), (4, False)])
def test_fewer_epochs_than_rounds_are_said_before_anything_is_asked(epochs, said):
    data, method = TwoDomains(), LFTL(trained(), TASK, ask=12, rounds=3)
    first = next(iter(fit(method, data, Plan(epochs=epochs))))
    told = [one for one in first.said if "give --epochs 3, or --rounds 2" in one]
    assert bool(told) == said
    assert not data.queried


def test_fewer_labels_than_rounds_are_refused():
    with pytest.raises(ValueError, match="every round asks for a label: got 3 labels in 10 rounds"):
        LFTL(trained(), TASK, ask=3)


def test_batch_norms_follow_the_target_in_train_mode_only():
    for batchnorm in ("train", "eval"):
        method = LFTL(trained(), TASK, batchnorm=batchnorm)
        before = [norm.running_mean.clone() for _, norm in batchnorms(method)]
        for _ in fit(method, TwoDomains(cast=0.5), Plan(epochs=1)):
            pass
        now = [norm.running_mean for _, norm in batchnorms(method)]
        stayed = [torch.equal(*pair) for pair in zip(before, now, strict=True)]
        assert stayed == [batchnorm == "eval"] * 2


@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_read_better_than_before(seed):
    net, data = trained(seed), TwoDomains(cast=0.5)
    before = data.accuracy(net)
    for _ in fit(LFTL(net, TASK, ask=20, lr=0.01), data, Plan(epochs=10, seed=seed)):
        pass
    assert data.accuracy(net) > min(before + 1, 99)
