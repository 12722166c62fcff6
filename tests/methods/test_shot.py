"""SHOT: information maximisation and the labels of centroids, under a fixed head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from dense_start import source_trained
from places import DensePlaces
from toy import CLASSES, TwoDomains, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.shot import SHOT
from adaptune.ops.rows import rows
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Needs

TASK = Classification(len(CLASSES))


def refreshed(**options) -> tuple[SHOT, TwoDomains]:
    method, data = SHOT(trained(), TASK, **options), TwoDomains(cast=0.5)
    method.prepare(data)
    method.refresh(data)
    return method, data


def test_the_terms_are_the_papers():
    method, data = refreshed(batchnorm="eval")
    batch = next(iter(data.batches(method.needs, 0)))
    method.double().train()
    x = batch.unlabeled.x.double()
    terms = method.objective(
        type(batch)(
            batch.labeled, type(batch.unlabeled)(x, batch.unlabeled.domain, batch.unlabeled.index)
        )
    ).terms
    p = method.net(x).softmax(1)
    mean, labels = p.mean(0), method.labels[batch.unlabeled.index]
    assert terms["certain"].item() == pytest.approx(-(p * p.log()).sum().item() / len(p))
    assert terms["diverse"].item() == pytest.approx((mean * mean.log()).sum().item())
    pseudo = -p[torch.arange(len(p)), labels].log().mean()
    assert terms["pseudo"].item() == pytest.approx(0.3 * pseudo.item())


def test_labels_are_those_of_the_nearest_centroid_in_two_rounds():
    method, data = refreshed()
    method.eval()
    with torch.no_grad():
        features = method.net.body(data.target).double()
        p = method.net.head(features.float()).softmax(1).double()
    rows = F.normalize(torch.cat([features, torch.ones(len(features), 1)], 1))
    centres = (p.T @ rows) / p.sum(0)[:, None]
    first = torch.cosine_similarity(rows[:, None], centres[None], dim=2).argmax(1)
    present = [c for c in range(3) if (first == c).any()]
    centres = torch.stack([rows[first == c].mean(0) for c in present])
    second = torch.cosine_similarity(rows[:, None], centres[None], dim=2).argmax(1)
    assert torch.equal(method.labels, torch.tensor(present)[second])


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_the_head_stays_and_batch_norms_follow_the_target_in_train_mode(batchnorm):
    method = SHOT(trained(), TASK, batchnorm=batchnorm)
    head = [value.clone() for value in method.net.head.state_dict().values()]
    means = [norm.running_mean.clone() for _, norm in batchnorms(method)]
    for _ in fit(method, TwoDomains(cast=0.5), Plan(epochs=1)):
        pass
    assert all(map(torch.equal, head, method.net.head.state_dict().values()))
    now = [norm.running_mean for _, norm in batchnorms(method)]
    assert [torch.equal(*pair) for pair in zip(means, now, strict=True)] == [
        batchnorm == "eval"
    ] * 2


def test_the_source_is_never_looked_at():
    data = TwoDomains(cast=0.5)
    data.scan = None
    for _ in fit(SHOT(trained(), TASK), data, Plan(epochs=1)):
        pass
    assert SHOT.needs == Needs(labeled=False, unlabeled=True)


def test_a_target_without_images_says_so():
    data = TwoDomains()
    data.unlabeled = lambda: iter(())
    with pytest.raises(ValueError, match="the target gave no image"):
        SHOT(trained(), TASK).prepare(data)


@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_read_better_than_before_with_batch_norms_held(seed):
    net, data = trained(seed), TwoDomains(cast=0.5)
    before = data.accuracy(net)
    for _ in fit(SHOT(net, TASK, batchnorm="eval", lr=0.03), data, Plan(epochs=10, seed=seed)):
        pass
    assert data.accuracy(net) > min(before + 1, 99)


def on_places() -> tuple[SHOT, DensePlaces]:
    torch.manual_seed(0)
    data = DensePlaces()
    method = SHOT(source_trained(), Segmentation(len(CLASSES)), batchnorm="eval")
    method.double()
    data.target = data.target.double()
    method.prepare(data)
    method.refresh(data)
    return method, data


def test_of_masks_every_place_is_a_row_and_centroids_are_those_of_all_at_once():
    method, data = on_places()
    with torch.no_grad():
        features = method.net.body(data.target)
        p = rows(method.net.head(features)).softmax(1)
    unit = F.normalize(torch.cat([rows(features), torch.ones(len(p), 1)], 1))
    labels = p.argmax(1)
    for weights in (p, None):
        weights = F.one_hot(labels, 3).double() if weights is None else weights
        centres = (weights.T @ unit) / weights.sum(0)[:, None]
        labels = torch.cosine_similarity(unit[:, None], centres[None], dim=2).argmax(1)
    batch = next(iter(data.batches(method.needs, 0))).unlabeled
    found = method.pseudo_labels(batch)
    assert torch.equal(found, labels.view(-1, 8, 8)[batch.index])
    mirrored = replace(batch, x=batch.x.flip(3))
    moved = method.pseudo_labels(mirrored)
    agreed = [(one == found).double().mean() for one in (moved.flip(2), moved)]
    assert agreed[0] > agreed[1] + 0.2


def test_the_terms_of_masks_are_those_of_their_places():
    method, data = on_places()
    batch = next(iter(data.batches(method.needs, 0)))
    terms = method.train().objective(batch).terms
    p = rows(method.net(batch.unlabeled.x)).softmax(1)
    mean, labels = p.mean(0), method.pseudo_labels(batch.unlabeled).flatten()
    assert terms["certain"].item() == pytest.approx(-(p * p.log()).sum().item() / len(p))
    assert terms["diverse"].item() == pytest.approx((mean * mean.log()).sum().item())
    pseudo = -p[torch.arange(len(p)), labels].log().mean()
    assert terms["pseudo"].item() == pytest.approx(0.3 * pseudo.item())


def test_labels_of_places_stay_while_the_body_moves():
    method, data = on_places()
    batch = next(iter(data.batches(method.needs, 0))).unlabeled
    found = method.pseudo_labels(batch)
    with torch.no_grad():
        method.net.body[0].weight.mul_(-1)
    assert torch.equal(method.train().pseudo_labels(batch), found)
    assert [group.module for group in method.groups()] == [method.net.body]
