"""DLIF: its terms by the formula, whose styles are crossed, and what either body is told."""

from __future__ import annotations

import lit
import pytest
import torch
import torch.nn.functional as F
from lit import LitDigits, unseen
from torch import nn
from toy import CLASSES, TwoDomains, body, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.dlif import DLIF
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.layers.cosine_head import CosineHead
from adaptune.networks.layers.style_attention import StyleAttention
from adaptune.networks.network import Network
from adaptune.ops.contrast import lone_but, overlap, supervised_contrast
from adaptune.ops.mixing import drawn_partners
from adaptune.ops.style import crossed
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES), domains=2)


def moved(**options) -> DLIF:
    """Give a method whose gates and second body have left where they began."""
    method = DLIF(network(), TASK, **options)
    with torch.no_grad():
        for one in method.parameters():
            one += 0.05 * torch.randn_like(one)
    return method


def batch():
    rows = next(iter(TwoDomains(sources=2).batches(DLIF.needs, 0)))
    object.__setattr__(rows.labeled, "x", rows.labeled.x.double())
    return rows


def contrast(features, groups, temperature):
    """Transcribe supervised contrast row by row."""
    each = []
    for i in range(len(features)):
        others = [k for k in range(len(features)) if k != i]
        same = [j for j in others if groups[j] == groups[i]]
        if same:
            total = sum((features[i] @ features[k] / temperature).exp() for k in others)
            logs = [((features[i] @ features[j] / temperature).exp() / total).log() for j in same]
            each.append(-sum(logs) / len(logs))
    return sum(each) / len(each)


def test_supervised_contrast_is_the_formula_in_float64_and_of_pairs_it_is_nt_xent():
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(9, 4).double())
    groups = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    found = supervised_contrast(rows, groups, 0.2)
    assert found.item() == pytest.approx(contrast(rows, groups, 0.2).item())
    one, two = rows[:4], rows[4:8]
    pairs = torch.arange(4).repeat(2)
    both = torch.cat([one, two])
    alike = (both @ both.T / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    wanted = F.cross_entropy(alike, (torch.arange(8) + 4) % 8)
    assert supervised_contrast(both, pairs, 0.5).item() == pytest.approx(wanted.item())
    assert supervised_contrast(rows, torch.arange(9), 0.2) == 0


def test_each_term_is_the_formula_in_float64():
    method, rows = moved(apart=0.5, contrast=0.25, temperature=0.1).double().eval(), batch()
    own = rows.labeled
    torch.manual_seed(4)
    terms = method.objective(rows).terms
    torch.manual_seed(4)
    u, v = [], []
    kinds = (
        (method.net.body, u, {"other": own.domain, "same": own.y}),
        (method.second, v, {"other": own.y, "same": own.domain}),
    )
    for net, found, fits in kinds:

        def take(maps, fits=fits):
            partner = drawn_partners(own.index, **fits)
            deviation = maps.var((2, 3), correction=0, keepdim=True).add(1e-5).sqrt()
            mean = maps.mean((2, 3), keepdim=True)
            return (maps - mean) / deviation * deviation[partner] + mean[partner]

        found.append(net(own.x))
        found.append(net[2:](take(net[:2](take(own.x)))))
        found.append(net[2:](take(net[:2](own.x))))
    w = F.normalize(method.net.head.weight)
    cosines = F.normalize(u[0]) @ w.T
    logits = 30 * cosines
    for row, y in enumerate(own.y):
        logits[row, y] = 30 * (cosines[row, y] - (0.4 if y == 0 else 0.1))
    assert terms["task"].item() == pytest.approx(F.cross_entropy(logits, own.y).item())
    d = F.normalize(method.whose.weight)
    told = F.cross_entropy(30 * F.normalize(v[0]) @ d.T, own.domain)
    assert terms["domain"].item() == pytest.approx(told.item())
    one, two = (F.normalize(torch.cat(some)) for some in (u, v))
    squares = sum((a @ b) ** 2 for a in one for b in two) / len(one) ** 2
    assert terms["overlap"].item() == pytest.approx(0.5 * squares.item())
    unsure = ((F.normalize(v[0]) @ w.T - 1 / 3) ** 2).mean()
    unsure += ((F.normalize(u[0]) @ d.T - 1 / 2) ** 2).mean()
    assert terms["unsure"].item() == pytest.approx(0.5 * unsure.item())
    groups = [0 if y == 0 else 1 + row for row, y in enumerate(own.y)]
    near = contrast(one, groups * 3, 0.1) + contrast(two, own.domain.tolist() * 3, 0.1)
    assert terms["contrast"].item() == pytest.approx(0.25 * near.item())


def test_crossed_maps_keep_their_content_and_have_the_partners_style():
    maps = 3 * torch.randn(4, 5, 6, 6).double() + 1
    partner = torch.tensor([2, 3, 1, 0])
    new = crossed(lambda: partner, 5, maps)
    assert torch.allclose(F.instance_norm(new), F.instance_norm(maps), atol=1e-4)
    assert torch.allclose(new.mean((2, 3)), maps[partner].mean((2, 3)))


def test_no_body_learns_of_what_the_other_bodys_head_knows():
    method, rows = moved(), batch()
    method.double()
    terms = method.objective(rows).terms
    told = torch.autograd.grad(
        terms["unsure"], [method.net.head.weight, method.whose.weight], allow_unused=True
    )
    assert told == (None, None)
    assert lone_but(torch.tensor([1, 2, 1, 0]), 1).tolist() == [0, 2, 0, 4]
    assert overlap(torch.eye(2), torch.zeros(3, 2)) == 0


def test_gates_read_mean_and_variance_and_change_nothing_at_first():
    net = network().double().eval()
    x = torch.randn(5, 3, 8, 8).double()
    before = net(x)
    net.operate("style-attention")
    assert torch.allclose(net(x), before)
    layer = net.body[1]
    assert isinstance(layer, StyleAttention)
    nn.init.normal_(layer.gate.weight)
    maps = layer.block(x.repeat(1, 3, 1, 1)[:, :8])
    style = torch.cat([maps.mean((2, 3)), maps.var((2, 3), correction=0)], 1)
    gate = torch.sigmoid((style @ layer.read.weight.T).relu() @ layer.gate.weight.T)
    wanted = maps * (1 + gate[:, :, None, None]) / 1.5
    assert torch.allclose(layer(x.repeat(1, 3, 1, 1)[:, :8]), wanted)
    tokens = StyleAttention(nn.Identity(), 8).double()
    tokens.load_state_dict({k: v for k, v in layer.state_dict().items() if "block" not in k})
    assert torch.allclose(tokens(maps.flatten(2).mT), wanted.flatten(2).mT)


def test_a_saved_network_is_the_first_body_with_its_gates_and_cosines(tmp_path):
    method = moved()
    method.net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    x = TwoDomains().target
    torch.testing.assert_close(again(x), method.net.eval()(x))
    assert isinstance(again.head, CosineHead)
    with pytest.raises(ValueError, match="a number above 0"):
        network().operate("cosine-head", scale=0.0)


def test_running_statistics_of_both_bodies_follow_three_passes_and_conversion_is_of_both():
    method = DLIF(network(), TASK)
    method.train()
    rows = next(iter(TwoDomains(sources=2).batches(DLIF.needs, 0)))
    before = [int(norm.num_batches_tracked) for _, norm in batchnorms(method)]
    method.objective(rows)
    after = [int(norm.num_batches_tracked) for _, norm in batchnorms(method)]
    assert [one - other for one, other in zip(after, before, strict=True)] == [3] * 4
    converted = DLIF(network(), TASK, batchnorm="converted")
    first = converted.second[1].running_mean.clone()
    converted.prepare(TwoDomains(sources=2))
    assert not torch.equal(converted.second[1].running_mean, first)
    assert torch.equal(converted.second[1].running_mean, converted.net.body[1].block.running_mean)


def test_bodies_come_apart_and_an_unseen_light_is_read_better():
    task, scores, overlaps = Classification(10, domains=2), {}, {}
    for apart in (0.0, 10.0):
        method = DLIF(lit.network(1), task, apart=apart)
        scores[apart] = unseen(method, epochs=6, seed=1)
        with torch.no_grad():
            x = LitDigits().x
            one, two = (F.normalize(part(x)) for part in (method.net.body, method.second))
        overlaps[apart] = overlap(one, two).item()
    plain = unseen(FineTune(lit.network(1), task), epochs=6, seed=1)
    assert overlaps[10.0] < 0.7 * overlaps[0.0]
    assert scores[10.0] > plain + 5


def test_it_learns_and_what_cannot_be_is_refused():
    method, data = DLIF(network(), TASK), TwoDomains(sources=2)
    for _ in fit(method, data, Plan(epochs=4)):
        pass
    method.eval()
    assert (method(data.x).argmax(1) == data.y).double().mean() > 0.9
    with pytest.raises(ValueError, match="live is a class, 0 to 2"):
        DLIF(network(), TASK, live=-1)
