"""GPRN: prompts of regions, prototypes that support themselves, a target by a few masks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from dense_start import PLAN, source_trained
from places import DensePlaces
from test_samda import TASK, AFewLabelled
from toy import CLASSES

from adaptune.engine.loop import fit
from adaptune.methods.few_shot.gprn import GPRN
from adaptune.networks.layers.region_prompts import PrototypeHead, RegionPrompts, edges
from adaptune.networks.network import Network
from adaptune.networks.regions import SegmentAnything, regions_of
from adaptune.ops.points import point_prompts, spread_points
from adaptune.ops.self_support import refined
from adaptune.types import Batch, Labeled, Needs


def batch(kind: torch.dtype = torch.float64) -> Batch:
    found = next(AFewLabelled().batches(Needs(domains=2), 0)).labeled
    return Batch(Labeled(found.x.to(kind), found.domain, found.index, y=found.y))


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum() / one.norm() / other.norm()


def test_regions_that_are_the_same_tell_each_other_as_much():
    nodes = torch.randn(1, 1, 5).expand(2, 4, 5)
    torch.testing.assert_close(edges(nodes), torch.full((2, 4, 4), 0.25))


def test_prompts_are_those_of_their_formula_in_float64():
    numbers = torch.tensor([[[0, 0, 2], [2, -1, 0]]])
    layer = RegionPrompts(torch.nn.Identity(), lambda x: numbers.expand(len(x), -1, -1), 4).double()
    torch.nn.init.normal_(layer.graph.project.weight)
    torch.nn.init.normal_(layer.graph.project.bias)
    x = torch.randn(2, 4, 2, 3).double()
    for image, found in zip(x, layer(x), strict=True):
        places = {region: image[:, numbers[0] == region] for region in (0, 2)}
        means = {region: own.mean(1) for region, own in places.items()}
        nodes = {region: layer.graph.project(mean) for region, mean in means.items()}
        for region, own in places.items():
            alike = {other: cosine(nodes[region], node) for other, node in nodes.items()}
            told = sum(alike[other] * nodes[other] for other in nodes) / sum(alike.values())
            wanted = own + (means[region] + 0.1 * told)[:, None]
            torch.testing.assert_close(found[:, numbers[0] == region], wanted)
        assert torch.equal(found[:, numbers[0] == -1], image[:, numbers[0] == -1])


def support(features, logits):
    """Give the means of sure places, and each place's own background, one image."""
    p, flat = logits.softmax(0).flatten(1), features.flatten(1)
    sure = []
    for kind in range(len(p)):
        own = p[kind] > (0.6 if kind == 0 else 0.7)
        if not own.any():
            own = torch.zeros_like(own).index_fill(0, p[kind].topk(12).indices, True)
        sure.append(own)
    unit = flat / flat.norm(dim=0)
    weights = (2 * unit.T @ unit[:, sure[0]]).softmax(1)
    around = (weights @ flat[:, sure[0]].T).T.view_as(features)
    return [flat[:, own].mean(1) for own in sure], around


def logits_of(features, prototypes):
    maps = [p if p.dim() == 3 else p[:, None, None].expand_as(features) for p in prototypes]
    return 10 * torch.stack([torch.cosine_similarity(features, one, dim=0) for one in maps])


@pytest.mark.parametrize("far", [0.1, 4.0])
def test_prototypes_are_refined_by_the_formula_in_float64(far):
    """For a foreground and a background, as in the paper; with and without sure places."""
    torch.manual_seed(0)
    features = far * torch.randn(1, 6, 5, 5).double() + 1
    fp, bp = torch.randn(2, 6).double() * far + 1
    found = refined(features, torch.stack([bp, fp])[None], torch.ones(1, 2, dtype=torch.bool))
    f = features[0]
    zero = logits_of(f, [bp, fp])
    (ssbp, ssfp), asbp = support(f, zero)
    fp1, bp1 = 0.5 * fp + 0.5 * ssfp, 0.3 * ssbp[:, None, None] + 0.7 * asbp
    one = logits_of(f, [bp1, fp1])
    (ssbp, ssfp), asbp = support(f, one)
    fp2, bp2 = 0.5 * fp + 0.5 * ssfp, 0.3 * ssbp[:, None, None] + 0.7 * asbp
    fp2 = 0.5 * fp + 0.2 * fp1 + 0.3 * fp2
    bp2 = 0.5 * bp[:, None, None] + 0.2 * bp1 + 0.3 * bp2
    two = 0.7 * logits_of(f, [bp2, fp2]) + 0.3 * one
    for name, wanted in (("never", zero), ("once", one), ("twice", two)):
        torch.testing.assert_close(getattr(found, name)[0], wanted)


def test_the_terms_are_those_of_their_formulas_in_float64():
    method, rows = GPRN(source_trained(), TASK, regions="grid").double().eval(), batch()
    terms = method.objective(rows).terms
    source = rows.labeled.domain == 0
    features, y = method.net.body(rows.labeled.x[source]), rows.labeled.y[source]
    sums, count = dict.fromkeys(terms, 0.0), int(source.sum()) // 2
    for s, q in zip(range(count), range(count, 2 * count), strict=True):
        kinds = [k for k in range(3) if (y[s] == k).any()]
        near = {k: features[s][:, y[s] == k].mean(1) for k in kinds}
        own = {k: features[q][:, y[q] == k].mean(1) for k in range(3) if (y[q] == k).any()}

        def loss(logits, y, kinds):
            asked = [(k, at) for at, k in enumerate(kinds) if (y == k).any()]
            logs = logits.log_softmax(0)
            each = [-logs[at][y == k] for k, at in asked]
            return torch.cat(each).mean() if each else torch.tensor(0.0)

        wide = torch.zeros(1, 3, 12, dtype=torch.float64)
        there = torch.zeros(1, 3, dtype=torch.bool)
        for k in kinds:
            wide[0, k], there[0, k] = near[k], True
        found = refined(features[q][None], wide, there)
        asked = torch.where(torch.isin(y[q], torch.tensor(kinds)), y[q], 255)
        sums["refined"] += loss(found.twice[0], asked, range(3))
        sums["query"] += loss(found.once[0], asked, range(3))
        sums["itself"] += loss(logits_of(features[q], own.values()), asked, list(own))
        sums["support"] += 0.2 * loss(logits_of(features[s], near.values()), y[s], kinds)
    for name in ("refined", "query", "itself", "support"):
        assert terms[name].item() == pytest.approx(sums[name].item() / count), name
    assert terms["returned"] > 0


def test_the_head_is_the_mean_of_the_targets_prototypes_and_has_classes_that_are_shown():
    method, data = GPRN(source_trained(), TASK, regions="grid", support=8), AFewLabelled(8)
    data.y[data.domain == 1] = data.y[data.domain == 1].where(data.y[data.domain == 1] != 2, 255)
    assert method.prepare(data)["support"] == 8
    few = (data.domain == 1).nonzero().flatten()[:8]
    with torch.no_grad():
        features = method.net.eval().body(data.x[few])
    for kind in range(2):
        own = [f[:, y == kind].mean(1) for f, y in zip(features, data.y[few], strict=True)]
        own = [one for one in own if one.isfinite().all()]
        torch.testing.assert_close(method.net.head.weight[kind], torch.stack(own).mean(0))
    assert method.net.head.there.tolist() == [True, True, False]
    assert (method(data.target).argmax(1) < 2).all()


@pytest.mark.parametrize("regions", ["slic", "grid"])
def test_a_target_is_labelled_by_four_masks(regions):
    data, method = AFewLabelled(4), GPRN(source_trained(), TASK, regions=regions)
    before = data.accuracy(source_trained())
    for _ in fit(method, data, PLAN):
        pass
    assert data.accuracy(method) > before + 15


def test_batch_norms_are_held():
    method = GPRN(source_trained(), TASK, regions="grid").train()
    before = method.net.body.body[1].running_mean.clone()
    method.objective(batch(torch.float32))
    assert torch.equal(method.net.body.body[1].running_mean, before)


def test_two_source_images_make_a_pair():
    rows = batch(torch.float32).labeled
    one = Labeled(rows.x[:1], rows.domain[:1], rows.index[:1], y=rows.y[:1])
    with pytest.raises(ValueError, match="batch-size"):
        GPRN(source_trained(), TASK, regions="grid").objective(Batch(one))


def test_a_saved_network_answers_without_its_method(tmp_path):
    net = Network.from_timm_features("test_resnet", CLASSES, stride=8, size=64)
    net.operate("region-prompts", regions="grid")
    assert isinstance(net.head, PrototypeHead)
    net.head.weight.normal_()
    net.save(tmp_path)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(Network.load(tmp_path).eval()(x), net.eval()(x))


def test_superpixels_keep_to_edges():
    x = torch.zeros(1, 3, 60, 40)
    x[:, 0, :, 20:] = 1.0
    found = regions_of("slic")(x)[0]
    assert found.shape == (60, 40)
    assert len(found.unique()) > 10
    assert not set(found[:, :20].unique().tolist()) & set(found[:, 20:].unique().tolist())


def test_regions_that_cannot_be_found_say_what_to_install_or_give(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="slic, grid or sam:FOLDER"):
        regions_of("watershed")
    with pytest.raises(ValueError, match="save_pretrained"):
        regions_of(f"sam:{tmp_path / 'none'}")
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"adaptune\[regions\]"):
        regions_of("slic")


def test_masks_of_segment_anything_are_regions_of_which_the_later_counts(tmp_path):
    one, other = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    one[:, :3], other[:2, 2:4] = True, True
    found = SegmentAnything(tmp_path)
    shown = []
    found.masks = lambda picture: shown.append(picture) or {"masks": [one, other]}
    numbers = found(torch.randn(1, 3, 4, 5))[0]
    assert shown[0].size == (5, 4)
    assert numbers.tolist() == [[0, 0, 1, 1, -1]] * 2 + [[0, 0, 0, -1, -1]] * 2


def test_points_lie_inside_a_mask_and_apart():
    mask = torch.zeros(30, 40)
    mask[4:25, 5:35] = 1
    mask[4:10, 5:15] = 0
    points = spread_points(mask, 8)
    assert len({tuple(one) for one in points.tolist()}) == 8
    assert mask[points[:, 1], points[:, 0]].all()
    gaps = torch.cdist(points.double(), points.double()).fill_diagonal_(99).min(1).values
    assert gaps.min() >= 3
    first, *_ = points.tolist()
    away = [abs(first[0] - 34), abs(first[1] - 24)]
    assert min(away) >= 5


def test_points_of_small_empty_and_whole_masks():
    assert spread_points(torch.zeros(3, 3), 5).shape == (0, 2)
    assert sorted(spread_points(torch.eye(3), 9).tolist()) == [[0, 0], [1, 1], [2, 2]]
    assert spread_points(torch.ones(9, 9), 1).tolist() == [[4, 4]]
    points, within = point_prompts(torch.eye(4), 3, 2)
    assert within.tolist() == [1, 1, 1, 0, 0]
    assert (points[:3, 0] == points[:3, 1]).all()
    assert (points[3:, 0] != points[3:, 1]).all()


def test_the_toy_of_few_labels_has_them_of_the_target():
    assert len(AFewLabelled(2).x[96:].flatten(1).unique(dim=0)) == 2
    assert isinstance(AFewLabelled(), DensePlaces)
