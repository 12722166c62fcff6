"""DECO: its terms by the formula, prototypes and what is rare, and the noise of other domains."""

from __future__ import annotations

import lit
import pytest
import torch
import torch.nn.functional as F
from lit import unseen
from toy import CLASSES, TwoDomains, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.deco import DECO
from adaptune.methods.supervised.ft import FineTune
from adaptune.ops.class_features import RarePrototypes, rarity
from adaptune.ops.mixing import drawn_partners
from adaptune.ops.style import content_apart, parted
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES), domains=2)


def begun(**options) -> DECO:
    method = DECO(network(), TASK, **options)
    method.prepare(TwoDomains(sources=2))
    method.contents.rare.copy_(torch.tensor([1.0, 0.5, 0.25]))
    method.noises.rare.copy_(torch.tensor([0.4, 1.0]))
    return method


def batch():
    return next(iter(TwoDomains(sources=2).batches(DECO.needs, 0)))


def content(maps):
    mean = maps.mean((2, 3), keepdim=True)
    return (maps - mean) / maps.var((2, 3), correction=0, keepdim=True).add(1e-5).sqrt()


def test_each_term_is_the_formula_in_float64():
    method, rows = begun(weight=0.5, keep=0.7).double().eval(), batch()
    own, body = rows.labeled, method.net.body
    object.__setattr__(own, "x", own.x.double())
    torch.manual_seed(5)
    terms = method.objective(rows).terms
    torch.manual_seed(5)
    partner = drawn_partners(own.index, other=own.domain)
    assert (own.domain[partner] != own.domain).all()
    maps = body[:2](own.x)
    z, n, new = content(maps), maps - content(maps), []
    for row, other in enumerate(partner):
        y, d = own.y[row], own.domain[other]
        share = 0.7 * (1.0, 0.5, 0.25)[y]
        prototype = method.contents.means[y].view(8, 8, 8)
        kept = share * z[row] + (1 - share) * prototype
        share = 0.7 * (0.4, 1.0)[d]
        prototype = method.noises.means[d].view(8, 8, 8)
        new.append(kept + share * n[other] + (1 - share) * prototype)
    one, two = body[2:5](maps), body[2:5](torch.stack(new))
    for name, late in (("task", one), ("mixed", two)):
        wanted = F.cross_entropy(method.net.head(body[5:](late)), own.y)
        assert terms[name].item() == pytest.approx(wanted.item(), rel=1e-6)
    a, b = content(one), content(two)
    cosine = (a * b).sum(1) / (a.square().sum(1).sqrt() * b.square().sum(1).sqrt())
    wanted = 0.5 * (1 - cosine - 0.1).clamp_min(0).mean()
    assert terms["content"].item() == pytest.approx(wanted.item(), rel=1e-6)


def test_prototypes_begin_as_means_and_follow_batches_after_the_step():
    method, data = DECO(network(), TASK), TwoDomains(sources=2)
    method.prepare(data)
    method.eval()
    maps = method.net.body[:2](data.x)
    z, n = parted(maps, 8)
    assert torch.equal(z + n, z + (maps - z))
    for y in range(3):
        wanted = z[data.y == y].mean(0).flatten()
        assert torch.allclose(method.contents.means[y], wanted, atol=1e-5)
    for d in range(2):
        wanted = n[data.domain == d].mean(0).flatten()
        assert torch.allclose(method.noises.means[d], wanted, atol=1e-5)
    before, rows = method.contents.means.clone(), batch()
    method.step(rows, lambda evaluate: evaluate())
    own = content(method.net.body[:2](rows.labeled.x)).flatten(1)
    for y in range(3):
        seen = own[rows.labeled.y == y].mean(0)
        wanted = 0.9 * before[y] + 0.1 * seen
        assert torch.allclose(method.contents.means[y], wanted, atol=1e-5)


def test_what_is_rare_keeps_more_of_itself():
    known = RarePrototypes(3)
    rows, y = torch.randn(14, 2, 3), torch.tensor([0] * 8 + [1] * 4 + [2] * 2)
    count = known.begin([(rows[:5].flatten(1), y[:5]), (rows[5:].flatten(1), y[5:])])
    assert count.tolist() == [8, 4, 2]
    assert known.rare.tolist() == rarity(count).tolist() == [0.25, 0.5, 1.0]
    found = known.mixed(rows, y, keep=0.6)
    for row, label, mixed in zip(rows, y, found, strict=True):
        share = 0.6 * (0.25, 0.5, 1.0)[label]
        prototype = rows[y == label].mean(0)
        assert torch.allclose(mixed, share * row + (1 - share) * prototype, atol=1e-5)


def test_contents_alike_but_for_contrast_and_colour_are_not_apart():
    maps = torch.randn(3, 5, 4, 4).double()
    gain, shift = 1 + torch.rand(3, 5, 1, 1), torch.randn(3, 5, 1, 1)
    assert content_apart(maps, gain * maps + shift, 5, 1e-3) == 0
    assert content_apart(maps, -maps, 5, 0.5).item() == pytest.approx(1.5)


def test_an_image_with_all_of_its_own_and_no_other_domain_is_itself():
    method = DECO(network(), Classification(3), keep=1.0).eval()
    data = TwoDomains()
    method.prepare(data)
    terms = method.objective(next(iter(data.batches(DECO.needs, 0)))).terms
    assert terms["mixed"].item() == pytest.approx(terms["task"].item(), rel=1e-4)
    assert terms["content"] == 0


def test_running_statistics_follow_images_and_mixed_images():
    method = begun().train()
    norms = [method.net.body[at] for at in (1, 4)]
    before = [int(norm.num_batches_tracked) for norm in norms]
    method.objective(batch())
    assert [int(norm.num_batches_tracked) for norm in norms] == [one + 2 for one in before]


def test_an_unseen_light_is_read_better_than_by_fine_tuning():
    task = Classification(10, domains=2)
    scores = {
        name: sum(unseen(method(lit.network(s), task), epochs=8, seed=s) for s in range(2)) / 2
        for name, method in (("ft", FineTune), ("deco", DECO))
    }
    assert scores["deco"] > scores["ft"] + 5


def test_it_learns_and_what_cannot_be_is_refused():
    method, data = DECO(network(), TASK), TwoDomains(sources=2)
    for _ in fit(method, data, Plan(epochs=4)):
        pass
    method.eval()
    assert (method(data.x).argmax(1) == data.y).double().mean() > 0.9
    with pytest.raises(ValueError, match="are shares"):
        DECO(network(), TASK, keep=2.0)
    with pytest.raises(ValueError, match="a stage before the last of 2: got 2"):
        DECO(network(), TASK, stage=2)
