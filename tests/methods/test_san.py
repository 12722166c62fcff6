"""SAN: soft contrast of views, known and unknown of each class, what a network keeps of both."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from open_digits import OpenDigits, six_digits
from toy import CLASSES, TwoDomains, body, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.san import SAN
from adaptune.networks.layers.all_in_one import all_in_one_losses, open_logits, openness
from adaptune.networks.network import Network
from adaptune.ops.soft_contrast import alike, similarity_weights, soft_contrast
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES))


def made(**options: object) -> SAN:
    return SAN(network(), TASK, **({"hidden": 16} | options))


def batch(method: SAN, dtype: torch.dtype = torch.float32) -> Batch:
    found = next(TwoDomains().batches(method.needs, 0))
    ours, theirs = found.labeled, found.unlabeled
    views = tuple(view.to(dtype) for view in theirs.views)
    theirs = replace(theirs, x=theirs.x.to(dtype), views=views)
    return Batch(replace(ours, x=ours.x.to(dtype)), theirs, 0.3)


def kernel(square: float, v: float) -> float:
    factor = math.gamma((v + 1) / 2) / (math.sqrt(v * math.pi) * math.gamma(v / 2))
    k = 2 * math.pi * factor**2 * (1 + square / v) ** -(v + 1)
    return k + k - k * k


def contrast(features: torch.Tensor, embeddings: torch.Tensor, near: float, width: float) -> float:
    count, total, loss = len(features) // 2, 0.0, 0.0
    for i in range(count):
        for j in range(count):
            total += float((features[i] - features[j]).square().sum())
    unit = width * total / (count * (count - 1))
    for i in range(2 * count):
        for j in range(2 * count):
            if i == j:
                continue
            square = float((features[i] - features[j]).square().sum()) / unit
            p = kernel(square / near if i % count == j % count else square, 100)
            q = kernel(float((embeddings[i] - embeddings[j]).square().sum()), 10)
            loss -= p * math.log(q) + (1 - p) * math.log(1 - q)
    return loss / (2 * count) ** 2


def test_the_terms_are_the_formulas_in_float64():
    method = made(lead=1.4, near=7.0, width=0.3).double().eval()
    rows = batch(method, torch.float64)
    terms = method.objective(rows).terms
    theirs, y = rows.unlabeled, rows.labeled.y
    ours = method.net.body(rows.labeled.x)
    seen = method.net.body(torch.cat([theirs.x, theirs.views[0]])).detach()
    head = method.head
    known = ours @ head.weight.T + head.bias
    unknown = ours @ head.unknown.weight.T + head.unknown.bias
    p = torch.cat([known, unknown], 1).softmax(1)
    total = 0.0
    for i, label in enumerate(y):
        others = [k for k in range(3) if k != label]
        total -= p[i, label].log() + min(p[i, 3 + k].log() for k in others)
        ahead = p[i, :3].max() - p[i, 3:].max()
        total -= 1.4 * torch.log(1 / (1 + torch.exp(-ahead)))
    assert terms["unknown"].item() == pytest.approx(total.item() / 3 / len(y))
    wanted = -known.log_softmax(1)[torch.arange(len(y)), y].mean()
    assert terms["task"].item() == pytest.approx(wanted.item())
    embedded = method.embedding(seen).detach()
    assert terms["contrast"].item() == pytest.approx(0.1 * contrast(seen, embedded, 7.0, 0.3))
    first = seen[: len(theirs)]
    yes, no = head.both(first)
    decided = torch.stack([yes, no]).softmax(0)
    entropy = -(decided * decided.log()).sum(0).mean()
    assert terms["decided"].item() == pytest.approx(0.1 * entropy.item())


def test_a_view_counts_less_the_farther_it_is_and_one_without_bound_is_a_plain_positive():
    torch.manual_seed(0)
    x, way = torch.randn(6, 4), torch.randn(6, 4)
    found = [similarity_weights(torch.cat([x, x + far * way]))[0, 6] for far in (0.1, 0.5, 2.0)]
    assert found[0] > found[1] > found[2]
    hard = similarity_weights(torch.cat([x, x + 2 * way]), near=math.inf)
    assert hard.diagonal(6).amin() > 0.9999
    assert alike(torch.zeros(()), 10.0) < 1


def test_no_gradient_reaches_what_says_how_alike_pairs_are():
    features = torch.randn(8, 3, requires_grad=True)
    embeddings = torch.randn(8, 3, requires_grad=True)
    soft_contrast(features, embeddings).backward()
    assert features.grad is None
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad.any()


def test_only_the_nearest_classes_are_in_the_softmax():
    torch.manual_seed(0)
    known, unknown, y = torch.randn(5, 6), torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 4])
    found = all_in_one_losses(known, unknown, y, nearest=3)
    for i, label in enumerate(y.tolist()):
        others = [k for k in known[i].argsort(descending=True).tolist() if k != label][:2]
        kept = [label, *others]
        one = all_in_one_losses(known[i : i + 1, kept], unknown[i : i + 1, kept], torch.tensor([0]))
        assert found[i].item() == pytest.approx(one.item(), rel=1e-5)
    with pytest.raises(ValueError, match="two or more"):
        all_in_one_losses(known[:, :1], unknown[:, :1], torch.zeros(5, dtype=torch.int64))
    assert openness(known, known).item() == pytest.approx(math.log(2))


def test_answers_are_those_of_known_outputs_and_even_where_unknown_ones_lead():
    known = 3 * torch.randn(50, 4)
    sure, lost = open_logits(known, known - 50), open_logits(known, known + 50)
    torch.testing.assert_close(sure, known.log_softmax(1))
    torch.testing.assert_close(lost.exp(), torch.full_like(lost, 0.25))
    assert torch.equal(open_logits(known, torch.randn(50, 4)).argmax(1), known.argmax(1))


def test_a_saved_network_keeps_what_is_unknown(tmp_path):
    method = made().eval()
    method.net.threshold = 0.7
    method.net.save(tmp_path)
    x = TwoDomains().target[:5]
    again = Network.load(tmp_path, module=body()).eval()
    torch.testing.assert_close(again(x), method(x))
    assert again.threshold == 0.7


@pytest.mark.parametrize("passes", ["separate", "apart"])
def test_batch_norms_take_images_of_the_target_and_their_views_together(passes):
    method = made(passes=passes)
    rows, norm = batch(method), method.net.body[1]
    seen = torch.cat([rows.unlabeled.x, *rows.unlabeled.views])
    expected = norm.running_mean.clone()
    method.train()
    method.objective(rows)
    with torch.no_grad():
        for x in (rows.labeled.x, seen) if passes == "separate" else (seen,):
            expected = 0.9 * expected + 0.1 * method.net.body[0](x).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected, atol=1e-6, rtol=1e-5)


def fitted(method, data, epochs: int):
    for _ in fit(method, data, Plan(epochs=epochs)):
        pass
    return method.eval()


def test_digits_of_no_class_are_rejected_by_the_papers_border():
    task, data = Classification(6, unknown=True), OpenDigits()
    ours = fitted(SAN(six_digits(), task), data, 8)
    plain = fitted(FineTune(six_digits(), task), data, 8)
    assert data.h_score(ours, 0.75) > data.best_h_score(plain) + 10


def test_hardly_anything_is_rejected_where_all_is_known():
    method, data = fitted(made(), TwoDomains(), 12), TwoDomains()
    known, unknown = method.head.both(method.net.body(data.target))
    assert (unknown.amax(1) >= known.amax(1)).double().mean() < 0.1
    assert data.accuracy(method) > 90


def test_what_cannot_be_is_refused():
    for options in ({"nearest": 1}, {"near": 0.0}, {"width": 0.0}):
        with pytest.raises(ValueError, match="above 0"):
            made(**options)
