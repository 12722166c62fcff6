"""OSUDA: statistics that go from the source's to the target's, and norms that stay near."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from dense_start import source_trained
from places import DensePlaces
from toy import CLASSES, TwoDomains, network, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.osuda import OSUDA
from adaptune.ops.rows import rows
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch

IMAGES, MASKS = Classification(len(CLASSES)), Segmentation(len(CLASSES))


def on_places(**options: object) -> tuple[OSUDA, Batch]:
    method, data = OSUDA(source_trained(), MASKS, **options).double(), DensePlaces()
    data.target = data.target.double()
    method.prepare(data)
    return method, next(data.batches(method.needs, 0))


def normalised(x, mean, variance, norm):
    shape = (1, -1, 1, 1)
    x = (x - mean.view(shape)) / (variance + norm.eps).sqrt().view(shape)
    return x * norm.weight.view(shape) + norm.bias.view(shape)


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_layers_normalise_by_a_share_of_the_sources_statistics_that_decays(progress):
    method, batch = on_places(start=0.8, decay=5.0)
    first, norm, *rest = method.net.body
    source = norm.running_mean.clone(), norm.running_var.clone()
    logits = method.train().objective(replace(batch, progress=progress)).logits
    share = 0.8 * math.exp(-5.0 * progress)
    seen = first(batch.unlabeled.x)
    own = seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)
    mixed = [share * s + (1 - share) * t for s, t in zip(source, own, strict=True)]
    x, second = rest[1](torch.relu(normalised(seen, *mixed, norm))), rest[2]
    kept = method.source.statistics[1]
    own = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    before = kept.running_mean, kept.running_var
    mixed = [share * s + (1 - share) * t for s, t in zip(before, own, strict=True)]
    features = torch.relu(normalised(x, *mixed, second))
    torch.testing.assert_close(logits, method.net.head(features))
    followed = 0.9 * source[0] + 0.1 * seen.mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, followed)
    torch.testing.assert_close(method.source.statistics[0].running_mean, source[0])


def test_the_terms_are_the_entropy_and_the_weighted_drift_in_float64():
    method, batch = on_places(hold=0.2, certain=0.7)
    with torch.no_grad():
        for _, norm in batchnorms(method.net.body):
            norm.weight += 0.1 * torch.randn_like(norm.weight)
            norm.bias -= 0.1 * torch.randn_like(norm.bias)
            norm.running_mean += torch.randn_like(norm.running_mean)
    done = method.eval().objective(batch)
    p = rows(done.logits).softmax(1)
    assert done.terms["certain"].item() == pytest.approx(-0.7 * (p * p.log()).sum().item() / len(p))
    channels = []
    for at, (_, norm) in enumerate(batchnorms(method.net.body)):
        kept = method.source.statistics[at]
        for c in range(len(norm.weight)):
            mine = norm.running_mean[c] / (norm.running_var[c] + norm.eps).sqrt()
            was = kept.running_mean[c] / (kept.running_var[c] + norm.eps).sqrt()
            first, second = (getattr(method.source, f"learnt{2 * at + one}")[c] for one in (0, 1))
            moved = (norm.weight[c] - first).abs() + (norm.bias[c] - second).abs()
            channels.append((1 / (1 + (mine - was).abs()), moved))
    whole = sum(near for near, _ in channels)
    wanted = sum((1 + len(channels) * near / whole) * moved for near, moved in channels)
    assert done.terms["drift"].item() == pytest.approx(0.2 * wanted.item())


def test_weights_of_norms_stay_nearer_to_the_sources_when_they_are_held():
    def moved(hold: float) -> float:
        method, data = OSUDA(source_trained(), MASKS, hold=hold, lr=0.01), DensePlaces()
        for _ in fit(method, data, Plan(epochs=3, layout="contiguous")):
            pass
        assert torch.equal(method.net.head.weight, source_trained().head.weight)
        return float(method.source.drift(method.net.body).detach())

    assert moved(0.01) < 0.7 * moved(0.0)


def test_a_target_is_read_better_than_by_the_network_that_it_began_as():
    for make, task, data in (
        (lambda: trained(lr=0.1, epochs=8), IMAGES, TwoDomains(tint=1.0)),
        (source_trained, MASKS, DensePlaces(tint=1.0)),
    ):
        before = data.accuracy(make())
        method = OSUDA(make(), task)
        for _ in fit(method, data, Plan(epochs=6, layout="contiguous")):
            pass
        assert data.accuracy(method) > before + 10


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        OSUDA(network(), IMAGES, start=1.5)
