"""SF(DA)^2: neighbours, implicit augmentation, disentangled covariances."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toy import CLASSES, TwoDomains, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.sfda2 import SFDA2
from adaptune.networks.heads import Readout
from adaptune.ops.covariances import augmented_loss, class_moments, merge, separation
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def after_an_epoch(**options) -> tuple[SFDA2, TwoDomains]:
    method, data = SFDA2(trained(), TASK, **options), TwoDomains(cast=0.5)
    for _ in fit(method, data, Plan(epochs=1)):
        pass
    return method, data


def implicit(logits, labels, w, covariance, strength):
    """The bound, written out for each row, class and other class."""
    losses = []
    for z, y in zip(logits, labels, strict=True):
        total = 0.0
        for c in range(len(w)):
            raised = [
                z[k] + strength / 2 * (w[k] - w[c]) @ covariance[y] @ (w[k] - w[c])
                for k in range(len(w))
            ]
            total += 2 * F.cross_entropy(torch.stack(raised)[None], torch.tensor([c]))
        losses.append(total)
    return torch.stack(losses)


def test_the_terms_are_the_papers():
    method, data = after_an_epoch(batchnorm="eval")
    method.double()
    batch = next(iter(data.batches(method.needs, 0)))
    batch = replace(
        batch, progress=0.4, unlabeled=replace(batch.unlabeled, x=batch.unlabeled.x.double())
    )
    features = method.net.body(batch.unlabeled.x)
    logits = method.net.head(features)
    p, guess = logits.softmax(1), logits.argmax(1)
    method.count += 50  # so that old covariances weigh
    terms = method.objective(batch).terms
    attract = disperse = 0.0
    for i, own in enumerate(batch.unlabeled.index):
        alike = torch.cosine_similarity(features[i][None], method.features, dim=1)
        alike[own] = -2
        attract -= sum(p[i] @ method.scores[j] for j in alike.topk(5).indices) / len(p)
        disperse += sum((p[i] @ p[j]) ** 2 for j in range(len(p)) if j != i) / len(p)
    assert terms["attract"].item() == pytest.approx(attract.item())
    assert terms["disperse"].item() == pytest.approx(disperse.item() * (1 + 10 * 0.4) ** -5)
    covariance = method.moments(features, logits).covariance
    expected = implicit(logits, guess, method.net.head.weight, covariance.float().double(), 0.4 * 5)
    assert terms["augment"].item() == pytest.approx(1e-4 * expected.mean().item(), rel=1e-5)
    apart = 0.0
    top = method.scores.argmax(1)
    means = [method.scores[top == c].sum(0) / max((top == c).sum(), 1) for c in range(3)]
    for i in range(3):
        for j in range(3):
            cosine = torch.cosine_similarity(
                covariance[i].flatten(), covariance[j].flatten(), dim=0
            )
            apart += (i != j) * (1 - cosine) * (means[i] @ means[j]) / 2
    assert terms["disentangle"].item() == pytest.approx(-10 * apart.item(), rel=1e-4)


def test_without_covariance_the_augmented_loss_is_the_plain_sum():
    torch.manual_seed(0)
    logits, w = torch.randn(6, 4).double(), torch.randn(4, 5).double()
    labels, none = torch.randint(4, (6,)), torch.zeros(4, 5, 5).double()
    plain = -2 * logits.log_softmax(1).sum(1)
    assert torch.allclose(augmented_loss(logits, labels, w, none, 5.0), plain)
    some = torch.eye(5).double().expand(4, 5, 5)
    assert torch.allclose(
        augmented_loss(logits, labels, w, some, 0.7), implicit(logits, labels, w, some, 0.7)
    )
    assert (augmented_loss(logits, labels, w, some, 0.7) > plain).all()


def test_covariances_of_batches_merge_to_that_of_all_rows():
    torch.manual_seed(0)
    rows, labels = torch.randn(40, 3).double() * 3 + 7, torch.randint(2, (40,))
    moments = class_moments(rows[:0], labels[:0], 3)
    for part in torch.arange(40).split(7):
        moments = merge(moments, class_moments(rows[part], labels[part], 3))
    for c in range(2):
        own = rows[labels == c]
        assert torch.allclose(moments.mean[c], own.mean(0))
        assert torch.allclose(moments.covariance[c], torch.cov(own.T, correction=0))
    assert moments.count.tolist() == [*torch.bincount(labels).tolist(), 0]
    assert not moments.covariance[2].any()


def test_alike_covariances_are_less_apart():
    torch.manual_seed(0)
    a, b = (x @ x.T for x in torch.randn(2, 4, 4))
    scores = torch.tensor([[0.6, 0.4], [0.4, 0.6]])
    assert separation(torch.stack([a, a]), scores) < 1e-6 < separation(torch.stack([a, b]), scores)


def test_every_row_of_the_banks_is_what_was_seen_last_and_rows_are_counted():
    method, data = after_an_epoch()
    assert torch.allclose(method.features.norm(dim=1), torch.ones(96))
    assert torch.allclose(method.scores.sum(1), torch.ones(96))
    assert method.count.sum() == 96


def test_a_standardised_head_is_folded_without_changing_what_it_says():
    net, x = trained(), TwoDomains().target
    head = Readout(net.width, 3)
    head.standardize(torch.ones(net.width), 2 * torch.ones(net.width), 1.0)
    torch.nn.init.normal_(head.weight)
    net.head = head
    before = net.eval()(x)
    assert torch.allclose(SFDA2(net, TASK).eval()(x), before, atol=1e-5)
    assert isinstance(net.head, torch.nn.Linear)


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_batch_norms_follow_the_target_in_train_mode_only(batchnorm):
    start = [norm.running_mean.clone() for _, norm in batchnorms(trained())]
    method, _ = after_an_epoch(batchnorm=batchnorm)
    now = [norm.running_mean for _, norm in batchnorms(method)]
    stayed = [torch.equal(*pair) for pair in zip(start, now, strict=True)]
    assert stayed == [batchnorm == "eval"] * 2


@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_read_better_than_before(seed):
    net, data = trained(seed), TwoDomains(cast=0.5)
    before = data.accuracy(net)
    for _ in fit(SFDA2(net, TASK, lr=0.01), data, Plan(epochs=10, seed=seed)):
        pass
    assert data.accuracy(net) > min(before + 1, 99)
