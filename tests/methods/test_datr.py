"""DATR: attention to neighbours, labels of the surer half, centres that domains share."""

from __future__ import annotations

import pytest
import torch
from dense_start import PLAN, TASK, source_trained
from places import DensePlaces, dense_network

from adaptune.engine.loop import fit
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.datr import DATR
from adaptune.networks.layers.neighbourhood_attention import NeighbourhoodAttention
from adaptune.networks.network import Network
from adaptune.ops.class_features import blended_centres
from adaptune.ops.pseudo_labels import class_thresholds, sure_labels
from adaptune.types import Batch, Labeled, Needs, Unlabeled


def batch(kind: torch.dtype = torch.float64) -> Batch:
    found = next(DensePlaces(count=24).batches(Needs(unlabeled=True), 0))
    x, target = found.labeled, found.unlabeled
    return Batch(
        Labeled(x.x.to(kind), x.domain, x.index, y=x.y),
        Unlabeled(target.x.to(kind), target.domain, target.index),
    )


def attention(width: int = 8, kernel: int = 3) -> NeighbourhoodAttention:
    torch.manual_seed(0)
    made = NeighbourhoodAttention(width, kernel=kernel).double()
    for one in made.parameters():
        torch.nn.init.normal_(one, std=0.5)
    return made


@pytest.mark.parametrize(("place", "rows", "columns"), [
    ((4, 5), (3, 6), (4, 7)), ((0, 0), (0, 3), (0, 3)), ((8, 3), (6, 9), (2, 5)),
])  # fmt: skip
def test_a_place_sees_its_window_and_nothing_else(place, rows, columns):
    layer, x = attention(), torch.randn(1, 8, 9, 10, dtype=torch.float64, requires_grad=True)
    row, column = place
    [seen] = torch.autograd.grad(layer(x)[0, :, row, column].sum(), x)
    inside = torch.zeros(9, 10, dtype=torch.bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert torch.equal(seen[0].abs().sum(0) > 0, inside)


def test_a_window_is_attended_to_by_the_formula_in_float64():
    layer, x = attention(), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    places = layer.norm(x.movedim(1, -1))
    q, k, v = layer.ask(places).view(2, 4, 5, 3, 8, 1).unbind(3)
    row, column = 3, 2
    near = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    heads = []
    for head in range(8):
        logits = torch.stack(
            [
                (q[0, row, column, head] * k[0, a, b, head]).sum()
                + layer.apart[head, a - row + 2, b - column + 2]
                for a, b in near
            ]
        )
        share = logits.softmax(0)
        seen = sum(w * v[0, a, b, head] for w, (a, b) in zip(share, near, strict=True))
        heads.append(seen)
    wanted = x[0, :, row, column] + layer.give(torch.cat(heads))
    torch.testing.assert_close(layer(x)[0, :, row, column], wanted)


def test_a_window_wider_than_the_grid_sees_all_of_it():
    layer = attention(kernel=13)
    x = torch.randn(1, 8, 4, 6, dtype=torch.float64, requires_grad=True)
    [seen] = torch.autograd.grad(layer(x)[0, :, 0, 0].sum(), x)
    assert (seen.abs().sum(1) > 0).all()


def test_attention_stands_behind_the_last_stage_begins_without_effect_and_is_saved(tmp_path):
    net = Network.from_timm_features("test_resnet", ("a", "b"), stride=8, size=64).eval()
    x = torch.randn(2, 3, 64, 64)
    before = net(x)
    net.operate("neighbourhood-attention", kernel=3)
    assert torch.equal(net(x), before)
    found = [
        name for name, one in net.body.named_modules() if isinstance(one, NeighbourhoodAttention)
    ]
    assert len(found) == 1
    assert found[0].startswith("layer4.")
    for one in net.body.get_submodule(found[0]).parameters():
        torch.nn.init.normal_(one)
    net.save(tmp_path)
    torch.testing.assert_close(Network.load(tmp_path).eval()(x), net(x))
    assert not torch.allclose(net(x), before)


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_vit"])
def test_attention_finds_the_last_stage_of_other_networks(name):
    net = Network.from_timm_features(name, ("a", "b"), stride=16, size=160).eval()
    x = torch.randn(1, 3, 160, 160)
    before = net(x)
    net.operate("neighbourhood-attention", kernel=3)
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize("kernel", [0, 4, 257])
def test_a_window_without_a_middle_is_refused(kernel):
    with pytest.raises(ValueError, match="odd side"):
        NeighbourhoodAttention(8, kernel=kernel)


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_the_bank_counts_for_less_than_half_by_the_epoch(epoch):
    features, y = torch.randn(3, 4, 2, 2).double(), torch.tensor([0, 1, 2] * 4).view(3, 2, 2)
    bank = torch.randn(4, 4).double()
    flat = features.movedim(1, -1)
    found = blended_centres(features, y, bank, 1 / (epoch + 1))
    for kind in range(3):
        mean = flat[y == kind].mean(0)
        wanted = 0.5 * ((1 - 1 / (epoch + 1)) * bank[kind] + mean / (epoch + 1))
        torch.testing.assert_close(found[kind], wanted)
    assert torch.equal(found[3], bank[3])


def test_the_terms_are_those_of_their_formulas_in_float64():
    method = DATR(source_trained(), TASK, kernel=3).double().eval()
    method.epoch.fill_(2)
    method.least.fill_(0.5)
    torch.manual_seed(1)
    method.banks.copy_(torch.randn(method.banks.shape))
    rows = batch()
    terms = method.objective(rows).terms
    net = method.net
    chances, said = net(rows.unlabeled.x).softmax(1).max(1)
    said = torch.where(chances < 0.5, 255, said)
    for name, x, y in (
        ("task", rows.labeled.x, rows.labeled.y),
        ("pseudo", rows.unlabeled.x, said),
    ):
        logs = net(x).log_softmax(1).movedim(1, -1)
        each = [-logs[i][y[i] < 3].gather(1, y[i][y[i] < 3][:, None]).mean() for i in range(24)]
        assert terms[name].item() == pytest.approx(torch.stack(each).mean().item())
    maps = []
    for side, y, bank in ((rows.labeled, rows.labeled.y, 0), (rows.unlabeled, said, 1)):
        features = net.body(side.x).movedim(1, -1)
        centres = features.clone()
        for kind in range(3):
            mean = features[y == kind].mean(0)
            centres[y == kind] = 0.5 * ((1 - 1 / 3) * method.banks[bank, kind] + mean / 3)
        maps.append((features * centres).sum(-1) / features.norm(dim=-1) / centres.norm(dim=-1))
    known = (rows.labeled.y < 3) & (said < 3)
    wanted = (maps[0] - maps[1])[known].square().mean()
    assert terms["aggregation"].item() == pytest.approx(wanted.item())


def test_nothing_is_asked_of_the_target_before_the_source_is_learnt():
    method, rows = DATR(dense_network(), TASK).double(), batch()
    method.refresh(DensePlaces())
    terms = method.objective(rows).terms
    assert (terms["pseudo"], terms["aggregation"]) == (0, 0)


def test_of_each_class_the_surer_half_is_labelled():
    torch.manual_seed(0)
    logits, least = torch.randn(40, 3, 6, 6) * 0.4, torch.ones(3)
    rows = Unlabeled(logits, torch.zeros(40), torch.arange(40))
    class_thresholds(torch.nn.Identity(), [rows], least)
    said = sure_labels(logits, least)
    for kind in range(3):
        kept = (said == kind).sum() / (logits.argmax(1) == kind).sum()
        assert 0.49 < kept < 0.52
    class_thresholds(torch.nn.Identity(), [rows], least, most=0.1)
    assert (sure_labels(logits, least) < 3).all()


@pytest.mark.parametrize("passes", ["separate", "apart"])
def test_batch_norms_follow_the_target_or_both_domains_and_not_what_labels(passes):
    method, rows = DATR(source_trained(), TASK, passes=passes), batch(torch.float32)
    method.train()
    norm = method.net.body.body[1]
    before = norm.running_mean.clone()
    method.objective(rows)
    with torch.no_grad():
        first = method.net.body.body[0]
        ours, theirs = (first(one.x).mean((0, 2, 3)) for one in (rows.labeled, rows.unlabeled))
    begun = before if passes == "apart" else 0.9 * before + 0.1 * ours
    torch.testing.assert_close(norm.running_mean, 0.9 * begun + 0.1 * theirs)
    assert torch.equal(method.labeller.body.body[1].running_mean, before)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_target_is_learnt_better_than_from_the_source_alone(seed):
    data, scores = DensePlaces(tint=0.7), {}
    for name, make in {"alone": FineTune, "datr": lambda *a: DATR(*a, supervised=0)}.items():
        method = make(source_trained(seed), TASK)
        for _ in fit(method, data, PLAN):
            pass
        scores[name] = data.accuracy(method)
    assert scores["datr"] > scores["alone"] + 10, scores
