"""SMOS: its terms by the formula, its precursor, and the measures of domain shift."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from toy import CLASSES, TwoDomains, domains, network, trained

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.smos import SMOS
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.networks.stages import stage_ends
from adaptune.ops.domain_shift import class_mixtures, class_variation, domain_distance
from adaptune.ops.information import js_divergence
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def batch():
    return next(iter(domains().batches(SMOS.needs, 0)))


def moved(**options) -> SMOS:
    """Give a method whose network has left the precursor."""
    method = SMOS(network(), TASK, **options)
    method.prepare(domains())
    with torch.no_grad():
        for one in method.net.parameters():
            one += 0.05 * torch.randn_like(one)
        for one in method.spread:
            one += torch.randn_like(one)
    return method


def js(p, q):
    middle = (p + q) / 2
    return sum(0.5 * (one * (one / middle).log()).sum(1) for one in (p, q))


def test_each_term_is_the_formula_in_float64():
    method, rows = moved().double().eval(), batch()
    object.__setattr__(rows.labeled, "x", rows.labeled.x.double())
    terms = method.objective(rows).terms
    x, wanted = rows.labeled.x, 0.0
    assert stage_ends(method.net.body) == method.layers
    for (name, _, _), b in zip(method.layers, method.spread, strict=True):
        end = int(name) + 1
        f, f0 = method.net.body[:end](x), method.precursor[:end](x)
        v = (1 + b.exp()).log() + 1e-5
        for channel in range(f.shape[1]):
            away = (f[:, channel] - f0[:, channel]) ** 2 / v[channel] + v[channel].log()
            wanted = wanted + away.mean() / f.shape[1] / 2
    assert terms["stages"].item() == pytest.approx(0.15 / 10 * wanted.item())
    f, f0 = method.net.body(x), method.precursor(x)
    wanted = 0.15 * js(f.softmax(1), f0.softmax(1)).mean()
    assert terms["features"].item() == pytest.approx(wanted.item())
    assert terms["task"].item() == pytest.approx(
        F.cross_entropy(method.net(x), rows.labeled.y).item()
    )


def test_variances_begin_where_they_are_told():
    method = SMOS(network(), TASK, variance=0.1)
    for one in method.spread:
        assert torch.allclose(F.softplus(one) + 1e-5, torch.tensor(0.1), atol=1e-6)
    assert [group.rate for group in method.groups()] == pytest.approx([0.003, 0.03])


def test_at_the_precursor_features_count_nothing_and_variances_alone_are_asked_for():
    method = SMOS(network(), TASK)
    method.prepare(domains())
    terms = method.train().objective(batch()).terms
    assert terms["features"].item() == pytest.approx(0.0, abs=1e-7)
    logs = 0.15 / 10 * len(method.layers) * math.log(0.1) / 2
    assert terms["stages"].item() == pytest.approx(logs, rel=1e-4)


def test_the_divergence_is_symmetric_and_at_most_ln_2():
    one, two = (20 * torch.randn(50, 6).double() for _ in range(2))
    found = js_divergence(one, two)
    assert torch.allclose(found, js_divergence(two, one))
    assert torch.allclose(found, js(one.softmax(1), two.softmax(1)), atol=1e-9)
    assert (found > 0).all()
    assert found.max() <= math.log(2)


def test_batch_norms_stay_and_the_precursor_normalises_by_what_runs():
    for policy in ("eval", "train"):
        method = moved(batchnorm=policy).train()
        before = {k: v.clone() for k, v in method.precursor.state_dict().items()}
        own = method.net.body[1].running_mean.clone()
        method.objective(batch())
        assert torch.equal(own, method.net.body[1].running_mean) == (policy == "eval")
        for key, value in method.precursor.state_dict().items():
            assert torch.equal(value, before[key])
        assert method.precursor.training


def test_the_precursor_is_the_body_as_the_run_begins_after_conversion():
    method = SMOS(trained(), TASK, batchnorm="converted")
    before = method.precursor[1].running_mean.clone()
    method.prepare(domains())
    assert torch.equal(method.precursor[1].running_mean, method.net.body[1].running_mean)
    assert not torch.equal(before, method.precursor[1].running_mean)


def test_without_weight_it_is_fine_tuning_and_with_it_it_stays_nearer():
    def away(method) -> float:
        begun = method.net.body[3].weight.clone()
        for _ in fit(method, TwoDomains(), Plan(epochs=3)):
            pass
        return (method.net.body[3].weight - begun).norm().item()

    plain = away(FineTune(trained(), TASK, lr=0.01, batchnorm="eval"))
    assert away(SMOS(trained(), TASK, lr=0.01, weight=0.0)) == pytest.approx(plain, rel=1e-5)
    assert away(SMOS(trained(), TASK, lr=0.01, weight=1.0)) < 0.9 * plain


def test_it_learns_and_refuses_what_cannot_be():
    method, data = SMOS(trained(), TASK, lr=0.03), TwoDomains()
    method.net.head.load_state_dict(method.net.fresh_head().state_dict())
    for _ in fit(method, data, Plan(epochs=6)):
        pass
    method.eval()
    assert (method(data.x).argmax(1) == data.y).double().mean() > 0.9
    with pytest.raises(ValueError, match="weight is a number from 0 up"):
        SMOS(network(), TASK, weight=-1.0)


def test_stages_of_timm_end_in_layers_that_give_their_width():
    for name, count in (("resnet18", 4), ("test_vit", 3), ("test_convnext", 4)):
        net = Network.from_timm(name, CLASSES, size=160 if name == "test_vit" else None)
        method = SMOS(net, TASK)
        assert len(method.layers) >= count
        rows = batch()
        size = 160 if name == "test_vit" else 64
        object.__setattr__(rows.labeled, "x", torch.randn(2, 3, size, size))
        object.__setattr__(rows.labeled, "y", torch.tensor([0, 1]))
        assert method.objective(rows).total.isfinite()


def test_domain_shift_is_the_formula_over_single_images_in_float64():
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 5, generator=random).double(), torch.arange(30) % 3
    z = torch.randn(30, 5, generator=random).double() * 2
    p, q = x.softmax(1), z.softmax(1)
    one = class_mixtures([(x[:11], y[:11]), (x[11:], y[11:])], 4)
    two = class_mixtures([(z, y)], 4)

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    within = [kl(p[y == k], p[y == k].mean(0)).mean() for k in range(3)]
    assert class_variation(one) == pytest.approx(sum(within).item() / 3, rel=1e-9)
    apart = []
    for k in range(3):
        a, b = p[y == k].mean(0), q[y == k].mean(0)
        apart.append((kl(a, (a + b) / 2) + kl(b, (a + b) / 2)) / 2)
    assert domain_distance(one, two) == pytest.approx(sum(apart).item() / 3, rel=1e-9)
    assert domain_distance(one, two) == domain_distance(two, one)
    assert domain_distance(one, one) == 0.0


def test_domain_shift_is_small_between_halves_and_grows_with_a_style():
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(600, 8, generator=random).double(), torch.arange(600) % 3
    style = torch.randn(8, generator=random).double()
    whole = class_mixtures([(x, y)], 3)
    halves = domain_distance(class_mixtures([(x[:300], y[:300])], 3), whole)
    found = [domain_distance(whole, class_mixtures([(x + a * style, y)], 3)) for a in (0.5, 1, 2)]
    assert [halves, *found] == sorted([halves, *found])
    assert class_variation(class_mixtures([(2 * x, y)], 3)) > class_variation(whole)
    with pytest.raises(ValueError, match="there are none"):
        class_mixtures([], 3)
