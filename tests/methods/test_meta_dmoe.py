"""Meta-DMoE: an episode by the formula, what is left out of it, and what a stream answers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, network, trained

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods.generalisation.meta_dmoe import MetaDMoE
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.layers.experts import Experts
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES), domains=2)


def made(net: Network | None = None, **options) -> MetaDMoE:
    experts = [Reference(trained(seed), network().preprocess) for seed in (1, 2)]
    return MetaDMoE(net or trained(), TASK, experts, **options)


def batch():
    return next(iter(TwoDomains(sources=2).batches(MetaDMoE.needs, 0)))


def test_an_episode_is_a_step_towards_the_aggregate_and_the_loss_after_it_in_float64():
    method = made(inner=0.3, support=0.5).double().train()
    rows = batch().labeled
    rows = replace(rows, x=rows.x.double())
    method.both.inner.fill_(0.3)
    with torch.no_grad():
        for one in method.both.aggregator.parameters():
            one += 0.1 * torch.randn_like(one)
    params = [*method.both.body.parameters(), *method.both.aggregator.parameters()]
    found = method.objective(replace(batch(), labeled=rows)).terms["query"]
    own = torch.autograd.grad(found, params, allow_unused=True)

    losses, layer = [], method.both.aggregator
    for domain in range(2):
        x, y = rows.x[rows.domain == domain], rows.y[rows.domain == domain]
        half = round(0.5 * len(x))
        seen = method.both.experts[1 - domain](x[:half]).detach()  # that of the domain is left out
        normed = layer.norm1(seen)
        value = F.linear(
            normed,
            *(
                one.chunk(3)[2]
                for one in (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
            ),
        )  # of one expert attention is to itself
        seen = seen + layer.self_attn.out_proj(value)
        wanted = seen + layer.linear2(F.gelu(layer.linear1(layer.norm2(seen))))
        body = method.both.body
        apart = (body(x[:half]) - wanted).square().mean()
        names, weights = zip(*body.named_parameters(), strict=True)
        slopes = torch.autograd.grad(apart, weights, create_graph=True)
        moved = {n: w - 0.3 * g for n, w, g in zip(names, weights, slopes, strict=True)}
        features = torch.func.functional_call(body, moved, (x[half:],))
        losses.append(F.cross_entropy(method.net.head(features), y[half:]))
    wanted = sum(losses) / 2
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)
    others = torch.autograd.grad(wanted, params, allow_unused=True)
    for one, other in zip(own, others, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.allclose(one, other, rtol=1e-6, atol=1e-10)
    assert own[-1] is not None  # the aggregator learns through the step


def test_the_aggregate_begins_as_the_mean_and_knows_no_order_of_experts():
    method, x = made().eval(), batch().labeled.x
    each = torch.stack([one(x) for one in method.both.experts])
    assert torch.allclose(method.both.target(x), each.mean(0), atol=1e-6)
    assert torch.allclose(method.both.target(x, without=0), each[1], atol=1e-6)
    with torch.no_grad():
        for one in method.both.aggregator.parameters():
            one += 0.1 * torch.randn_like(one)
    before = method.both.target(x)
    first, second = method.both.experts
    method.both.experts[0], method.both.experts[1] = second, first
    assert torch.allclose(method.both.target(x), before, atol=1e-5)


def test_experts_are_the_teachers_as_they_predict_and_never_move():
    teacher, x = trained(1).eval(), batch().labeled.x
    method = made().train()
    assert torch.allclose(method.both.experts[0](x), teacher.body(x), atol=1e-5)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method.step(batch(), Descent(method, Plan(), Fabric(accelerator="cpu", devices=1)))
    for key, value in method.state_dict().items():
        if ".experts." in key or "running" in key:
            assert torch.equal(value, before[key]), key


class One(TwoDomains):
    """One of the two sources."""

    def __init__(self, domain: int) -> None:
        super().__init__(sources=2)
        own = self.domain == domain
        self.x, self.y, self.domain = self.x[own], self.y[own], 0 * self.domain[own]


def expert(domain: int) -> Reference:
    method = FineTune(trained(), Classification(len(CLASSES)), batchnorm="eval")
    for _ in fit(method, One(domain), Plan(epochs=3)):
        pass
    return Reference(method.net, network().preprocess)


def test_after_learning_a_step_lowers_the_loss_on_queries_and_the_target_is_right():
    data = TwoDomains(sources=2)
    method = MetaDMoE(trained(), TASK, [expert(0), expert(1)], lr=0.01, inner=0.1)
    for _ in fit(method, data, Plan(epochs=6)):
        pass
    method.eval()
    losses = []
    for inner in (0.0, 0.1):
        method.both.inner.fill_(inner)
        episodes = list(data.batches(MetaDMoE.needs, 99))
        found = [method.objective(one).terms["query"].item() for one in episodes]
        losses.append(sum(found) / len(found))
    assert losses[1] < losses[0]
    right = [
        (one.logits.argmax(1) == data.truth[one.index]).double().mean()
        for one in stream(method, data.unlabeled(), Plan())
    ]
    assert sum(right) / len(right) > 0.9


def test_a_stream_answers_one_step_from_what_was_learnt_by_what_a_run_holds(tmp_path):
    net = Network.from_timm("test_resnet", CLASSES)
    experts = [
        Reference(Network.from_timm("test_resnet", CLASSES), net.preprocess) for _ in range(2)
    ]
    MetaDMoE(net, TASK, experts, inner=0.5)
    net.save(tmp_path)
    method = MetaDMoE(Network.load(tmp_path), Classification(len(CLASSES)))
    assert isinstance(method.net.body, Experts)
    assert float(method.both.inner) == 0.5
    before = deepcopy(method.state_dict())
    rows = list(TwoDomains(count=12, batch_size=6).unlabeled())
    answers = [one.logits for one in stream(method, rows, Plan())]
    for key, value in method.state_dict().items():
        assert torch.equal(value, before[key]), key
    method.eval()
    for some, logits in zip(rows, answers, strict=True):
        moved, _ = method.both.stepped(some.x)
        assert torch.allclose(
            method.net.head(method.both.features(moved, some.x)), logits, atol=1e-5
        )
        assert not torch.allclose(method(some.x), logits, atol=1e-5)


def test_what_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match="this network has no experts"):
        MetaDMoE(network(), TASK)
    one = Reference(trained(1), network().preprocess)
    with pytest.raises(ValueError, match="2 and not 1"):
        MetaDMoE(network(), TASK, [one])
    other = Reference(Network.from_timm("test_resnet", CLASSES), network().preprocess)
    with pytest.raises(ValueError, match="expert 2 is no network as the one that learns"):
        MetaDMoE(network(), TASK, [one, other])
    method, rows = made(), batch()
    lone = replace(rows.labeled, domain=torch.zeros_like(rows.labeled.domain))
    with pytest.raises(ValueError, match="an episode takes two images of a domain"):
        method.objective(replace(rows, labeled=lone))
