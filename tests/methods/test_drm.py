"""DRM learns a head for each domain and predicts by those that are sure."""

from __future__ import annotations

import math

import pytest
import torch
from toy import CLASSES, TwoDomains, body, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.drm import DRM
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.layers.domain_heads import shares
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES), domains=3)


def made(**options: float) -> DRM:
    return DRM(network(), TASK, **options)


def some(data: TwoDomains, rows: torch.Tensor, dtype: torch.dtype = torch.float32) -> Batch:
    return Batch(Labeled(data.x[rows].to(dtype), data.domain[rows], rows, y=data.y[rows]))


@pytest.fixture(scope="module")
def fitted() -> tuple[DRM, TwoDomains]:
    method, data = made(lr=0.1), TwoDomains(sources=3)
    for _ in fit(method, data, Plan(epochs=15)):
        pass
    return method.eval(), data


def test_the_objective_is_the_formula():
    method, data = made().double().eval(), TwoDomains(sources=3)
    rows = torch.tensor([0, 5, 100, 101, 102, 7, 200, 201, 13])
    batch = some(data, rows, torch.float64).labeled
    features, heads = method.net.body(batch.x), method.heads
    wanted = 0.0
    for d in range(3):
        for head in (heads.own[d], heads):
            total, count = 0.0, 0
            for z, y, domain in zip(features, batch.y, batch.domain, strict=True):
                if domain == d:
                    logits = (head.weight @ z + head.bias).detach()
                    total += float(logits.exp().sum().log() - logits[y])
                    count += 1
            wanted += total / count / 2 / 3
    done = method.objective(Batch(batch))
    assert done.total.item() == pytest.approx(wanted, rel=1e-9)
    torch.testing.assert_close(done.logits, method(batch.x))


def test_a_domains_head_learns_from_its_rows_alone():
    method, data = made(), TwoDomains(sources=3)
    method.objective(some(data, torch.tensor([0, 1, 200]))).total.backward()
    assert [bool(head.weight.grad.any()) for head in method.heads.own] == [True, False, True]
    assert method.heads.weight.grad.any()


def test_it_learns_the_sources_and_the_target_it_never_sees(fitted):
    method, data = fitted
    for model, least in ((method, 60), (method.net, 60)):
        assert data.accuracy(model) > least
    assert evaluate(method, data.scan("val"), TASK).scores.main.value > 80


def test_images_trust_the_head_of_their_source_where_sources_contradict_each_other():
    """The class is the brightest channel of one source, the darkest of the other."""
    method, data = made(lr=0.1), TwoDomains(sources=2)
    data.x[data.domain == 1] *= -1
    for _ in fit(method, data, Plan(epochs=15)):
        pass
    method.eval()
    with torch.no_grad():
        each = method.heads.each(method.net.body(data.x))[:, :2]
    chosen = shares(each, math.inf).argmax(1)
    assert float((chosen == data.domain).double().mean()) > 0.9
    rival = FineTune(network(), TASK, lr=0.1)
    for _ in fit(rival, data, Plan(epochs=15)):
        pass
    assert data.accuracy(method) > data.accuracy(rival) + 30


def test_gamma_decides_who_predicts(fitted):
    method, data = fitted
    with torch.no_grad():
        each = method.heads.each(method.net.body(data.target)).softmax(2)
        method.heads.gamma.fill_(0)
        torch.testing.assert_close(method(data.target).exp(), each.mean(1))
        method.heads.gamma.fill_(math.inf)
        alone = (method(data.target).exp()[:, None] - each).abs().amax(2).amin(1)
        method.heads.gamma.fill_(method.gamma)
    assert alone.max() < 1e-6


def test_batch_norm_sees_all_domains_of_a_batch_as_one():
    method, data = made().train(), TwoDomains(sources=3)
    rows = torch.arange(0, 288, 9)
    norm = method.net.body[1]
    before = norm.running_mean.clone()
    x = method.net.body[0](data.x[rows]).mean((0, 2, 3))
    method.objective(some(data, rows))
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * x.detach())


def test_a_saved_network_holds_all_heads_and_gamma(fitted, tmp_path):
    method, data = fitted
    method.heads.gamma.fill_(math.inf)
    method.net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    torch.testing.assert_close(again(data.target), method(data.target))
    assert again.head.gamma == math.inf
    method.heads.gamma.fill_(method.gamma)


@pytest.mark.parametrize("gamma", [-1.0, math.nan])
def test_a_gamma_below_zero_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma is 0 or above"):
        made(gamma=gamma)
