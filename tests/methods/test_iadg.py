"""IADG: its terms by the formula, styles and pairs, kernels of images, and what is saved."""

from __future__ import annotations

from copy import deepcopy

import lit
import pytest
import torch
import torch.nn.functional as F
from lit import LitDigits, unseen
from torch import nn
from toy import CLASSES, TwoDomains, body, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.iadg import IADG
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.layers.dynamic_kernels import DynamicKernels
from adaptune.networks.network import Network
from adaptune.ops.clustering import farthest_rows
from adaptune.ops.mixing import row_draws
from adaptune.ops.style import flat_style, style_shares
from adaptune.ops.whitening import StylePairs
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES), domains=2)
FEW = {"styles": 4, "live_share": 0.05, "other_share": 0.02}


def begun(**options) -> IADG:
    """Give a method that has chosen styles and pairs, its kernels no longer zero."""
    method = IADG(network(), TASK, **FEW | options)
    nn.init.normal_(method.net.body[1].fuse.weight, std=0.1)
    torch.manual_seed(2)
    method.refresh(TwoDomains(sources=2))
    return method


def batch():
    return next(iter(TwoDomains(sources=2).batches(IADG.needs, 0)))


def test_each_term_is_the_formula_in_float64():
    method, rows = begun(weight=0.5).double().eval(), batch()
    own = rows.labeled
    object.__setattr__(own, "x", own.x.double())
    torch.manual_seed(5)
    terms = method.objective(rows).terms
    torch.manual_seed(5)
    shares = row_draws(own.index, 4, style_shares).double()
    assert torch.allclose(shares.sum(1), torch.ones(24).double())
    early = method.net.body[:2](own.x)
    new = []
    for maps, y, share in zip(early, own.y, shares, strict=True):
        mean, deviation = maps.mean((1, 2)), maps.var((1, 2), correction=0).add(1e-5).sqrt()
        m, s = sum(w * known for w, known in zip(share, method.assembly.known[y], strict=True))
        plain = (maps - mean[:, None, None]) / deviation[:, None, None]
        new.append(plain * s[:, None, None] + m[:, None, None])
    whitening = 0.0
    for name, maps in (("task", early), ("restyled", torch.stack(new))):
        late = method.net.body[2:5](maps)
        wanted = F.cross_entropy(method.net.head(method.net.body[5:](late)), own.y)
        assert terms[name].item() == pytest.approx(wanted.item())
        flat = late.flatten(2)
        products = flat @ flat.transpose(1, 2) / 63
        for pairs, some in ((method.pairs.first, own.y == 0), (method.pairs.second, own.y != 0)):
            sizes = [one[i, j].abs() for one in products[some] for i, j in pairs.T]
            whitening += sum(sizes) / len(sizes) / 2
    assert terms["whitening"].item() == pytest.approx(0.5 * whitening.item())


def test_pairs_are_a_fixed_number_of_those_that_restyling_moves_most():
    pairs = StylePairs(12, (0.05, 0.02))
    assert (pairs.first.shape, pairs.second.shape) == ((2, 7), (2, 2))
    plain, other = torch.randn(2, 20, 12, 3, 3)
    other[:, 5] = plain[:, 5]
    first = torch.arange(20) < 8
    spread = pairs.spread()
    for at in torch.arange(20).split(7):
        pairs.add(spread, plain[at], other[at], first[at])
    pairs.choose(spread)
    for chosen, some in ((pairs.first, first), (pairs.second, ~first)):
        moved = torch.zeros(12, 12)
        for a, b in zip(plain[some].flatten(2), other[some].flatten(2), strict=True):
            one, two = a @ a.T / 8, b @ b.T / 8
            moved += ((one - (one + two) / 2) ** 2 + (two - (one + two) / 2) ** 2) / 2
        wanted = moved.triu(1).flatten().topk(chosen.shape[1]).indices
        assert set(wanted.tolist()) == {12 * int(i) + int(j) for i, j in chosen.T}


def test_styles_are_of_the_class_and_what_takes_them_keeps_its_content():
    method, data = begun(), TwoDomains(sources=2)
    method.eval()
    early = method.net.body[:2](data.x)
    seen = flat_style(early)
    for y, known in enumerate(method.assembly.known):
        for one in known:
            near = (seen - one).flatten(1).norm(dim=1).argmin()
            assert torch.allclose(seen[near], one, atol=1e-4)
            assert data.y[near] == y
    torch.manual_seed(1)
    new = method.assembly.put_on(data.y, style_shares(len(data.y), 4), early)
    assert not torch.allclose(flat_style(new), seen, atol=0.05)
    assert torch.allclose(F.instance_norm(new), F.instance_norm(early), atol=1e-2)


def test_rows_chosen_lie_far_apart_and_begin_again_where_they_are_few():
    rows = torch.tensor([[0.0, 0.0], [0.1, 0.0], [4.0, 0.0], [4.1, 0.2], [0.0, 9.0]])
    found = farthest_rows(rows, 3).tolist()
    assert found == [4, 2, 0]
    assert sorted(farthest_rows(rows, 7).tolist()[:5]) == list(range(5))
    assert farthest_rows(torch.ones(1, 2), 3).tolist() == [0, 0, 0]


def test_kernels_are_each_images_own_and_nothing_changes_at_first():
    net = network().double()
    x = torch.randn(3, 3, 8, 8).double()
    before = net.eval()(x)
    net.operate("dynamic-kernels")
    assert torch.equal(net(x), before)
    layer = net.body[1]
    assert isinstance(layer, DynamicKernels)
    maps = torch.randn(2, 4, 5, 5).double()
    found = layer.dynamic(maps)
    for row in range(2):
        for channel in range(4):
            kernel = layer.kernel.weight[:, 0] * maps[row, channel].mean() + layer.kernel.bias
            one = maps[row : row + 1, channel : channel + 1]
            wanted = F.conv2d(one, kernel.view(1, 1, 3, 3), padding=1)[0, 0]
            assert torch.allclose(found[row, channel], wanted)
    with pytest.raises(ValueError, match="take a network that convolves images"):
        DynamicKernels(nn.Flatten(), 4)(x)


def test_a_saved_network_loads_with_its_kernels_and_begins_another_run(tmp_path):
    method = begun()
    method.net.save(tmp_path)
    again = Network.load(tmp_path, module=body()).eval()
    x = TwoDomains().target
    torch.testing.assert_close(again(x), method.net.eval()(x))
    assert len(IADG(deepcopy(again), TASK).net.surgery) == 1


def test_running_statistics_follow_both_kinds_and_stay_while_styles_are_chosen():
    method = begun().train()
    norm = method.net.body[4]
    tracked, mean = norm.num_batches_tracked.clone(), norm.running_mean.clone()
    method.refresh(TwoDomains(sources=2))
    assert torch.equal(norm.running_mean, mean)
    method.objective(batch())
    assert norm.num_batches_tracked == tracked + 2
    assert norm.training


def test_whitened_products_are_smaller_than_without_and_an_unseen_light_is_read_better():
    task, scores, sizes = Classification(10, domains=2), {}, {}
    for weight in (0.0, 1.0):
        method = IADG(lit.network(1), task, weight=weight)
        scores[weight] = unseen(method, epochs=8, seed=1)
        _, maps = method.twice(next(iter(LitDigits().scan("train"))), torch.zeros(50, 128))[0]
        sizes[weight] = method.pairs.size(maps, torch.arange(50) < 25).item()
    plain = unseen(FineTune(lit.network(1), task), epochs=8, seed=1)
    assert sizes[1.0] < 0.7 * sizes[0.0]
    assert scores[1.0] > plain + 5


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="live is a class, 0 to 2"):
        IADG(network(), TASK, live=3)
    with pytest.raises(ValueError, match="two stages or more"):
        IADG(Network.from_module(nn.Linear(4, 3), head="", classes=CLASSES), TASK)


def test_it_learns_what_fine_tuning_learns():
    method, data = IADG(network(), TASK), TwoDomains(sources=2)
    for _ in fit(method, data, Plan(epochs=4)):
        pass
    method.eval()
    assert (method(data.x).argmax(1) == data.y).double().mean() > 0.9
