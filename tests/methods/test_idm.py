"""IDM: what teaches most, patches and their labels, prototypes, a target of one image."""

from __future__ import annotations

import math

import pytest
import torch
from dense_start import PLAN, TASK, FewOfTheTarget, source_trained
from places import DensePlaces, dense_network

from adaptune.engine.loop import fit
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.idm import IDM
from adaptune.ops.class_features import Prototypes, class_sums, cosines, labels_on_grid
from adaptune.ops.patches import most_uncertain, pasted, patch_masks
from adaptune.ops.pseudo_labels import sure_labels
from adaptune.types import Batch, Labeled, Needs, Unlabeled

BOTH = Needs(unlabeled=True)


def batch(kind: torch.dtype = torch.float32) -> Batch:
    found = next(DensePlaces(count=24).batches(BOTH, 0))
    x, target = found.labeled, found.unlabeled
    return Batch(
        Labeled(x.x.to(kind), x.domain, x.index, y=x.y),
        Unlabeled(target.x.to(kind), target.domain, target.index),
    )


def test_patches_are_whole_squares_of_which_a_share_is_drawn():
    torch.manual_seed(0)
    masks = patch_masks(torch.rand(5, 16), (10, 12), grid=4, share=0.25)
    for mask in masks:
        cells = [part for rows in mask.tensor_split([2, 5, 7]) for part in rows.split(3, 1)]
        filled = [bool(part.all()) for part in (mask[a:b] for a, b in ((0, 3), (3, 5)))]
        assert len(cells) == 16
        assert not all(filled)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 1
    cells = masks[:, [0, 3, 5, 8]][:, :, ::3]
    assert cells.flatten(1).sum(1).tolist() == [4] * 5
    assert torch.equal(masks, cells.repeat_interleave(3, 2)[:, torch.arange(10) * 4 // 10])


def test_a_mixed_label_map_is_that_of_the_masks_that_were_pasted():
    x, other = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    mask = patch_masks(torch.rand(2, 4), (8, 8), grid=2, share=0.5)
    mixed = pasted(x, other, mask)
    labels = pasted(torch.full((2, 8, 8), 4), torch.full((2, 8, 8), 7), mask)
    assert torch.equal(mixed[:, 0] == 1, labels == 7)
    assert torch.equal(mixed[:, 0] == 1, mask)


def test_those_that_are_chosen_are_the_most_uncertain_ones():
    logits = torch.randn(6, 3, 4, 4) * torch.tensor([9.0, 0.1, 3.0, 0.5, 0.2, 5.0]).view(
        -1, 1, 1, 1
    )
    chances = logits.softmax(1)
    each = -(chances * chances.log()).sum(1).mean((1, 2))
    assert set(most_uncertain(logits, 0.5, torch.arange(6))[0].tolist()) == set(
        each.argsort()[-3:].tolist()
    )
    assert len(most_uncertain(logits, 0.01, logits)[0]) == 1


def test_the_terms_are_those_of_their_formulas_in_float64():
    torch.manual_seed(1)
    method = IDM(source_trained(), TASK, informative=0.5, sure=0.6).double().eval()
    method.prototypes.means.copy_(torch.randn(3, 12))
    rows = batch(torch.float64)
    torch.manual_seed(2)
    terms = method.objective(rows).terms
    torch.manual_seed(2)
    x, y, target = method.mix(rows)
    net = method.net
    logits = net(rows.labeled.x).softmax(1)
    each = -(logits * logits.log()).sum(1).mean((1, 2))
    kept = each.argsort()[-12:].sort().values
    chances = net(rows.unlabeled.x).softmax(1)
    sure, said = chances.max(1)
    assert 0.3 < (sure >= 0.6).double().mean() < 1
    assert target.double().mean() == 0.5
    for row, of in enumerate(kept):
        for place in torch.cartesian_prod(torch.arange(8), torch.arange(8)):
            a, b = place.tolist()
            theirs = bool(target[row, a, b])
            source = rows.unlabeled.x[row] if theirs else rows.labeled.x[of]
            known = said[row, a, b] if sure[row, a, b] >= 0.6 else 255
            assert torch.equal(x[row, :, a, b], source[:, a, b])
            assert y[row, a, b] == (known if theirs else rows.labeled.y[of, a, b])
    logs = net(x).log_softmax(1)
    losses = []
    for row in range(12):
        own = [
            -logs[row, y[row, a, b], a, b] for a in range(8) for b in range(8) if y[row, a, b] < 3
        ]
        losses.append(sum(own) / len(own))
    assert terms["mixed"].item() == pytest.approx(sum(losses).item() / 12)
    features = net.body(rows.unlabeled.x).movedim(1, -1).reshape(-1, 12)
    means = method.prototypes.means
    near = features @ means.T / features.norm(dim=1, keepdim=True) / means.norm(dim=1)
    q = (near / 0.1).softmax(1)
    certain = -(q * q.log()).sum(1).mean()
    mean = q.mean(0)
    assert terms["certain"].item() == pytest.approx(0.1 * certain.item())
    assert terms["diverse"].item() == pytest.approx(0.1 * (mean * mean.log()).sum().item())


def test_prototypes_are_class_means_and_follow_only_classes_that_are_there():
    features, y = torch.randn(4, 7, 8, 8).double(), torch.randint(0, 2, (4, 8, 8))
    y[:, 0] = 255
    known = Prototypes(3, 7).double()
    known.means.fill_(1.0)
    known.follow(features, y, momentum=0.75)
    flat = features.movedim(1, -1)
    for kind in range(2):
        wanted = 0.75 + 0.25 * flat[y == kind].mean(0)
        torch.testing.assert_close(known.means[kind], wanted)
    assert known.means[2].eq(1).all()
    total, count = class_sums(features, y, 3)
    assert count.tolist() == [float((y == kind).sum()) for kind in range(3)]
    torch.testing.assert_close(total[1], flat[y == 1].sum(0))


def test_labels_are_read_at_the_centres_of_the_features_grid():
    y = torch.arange(64).view(1, 8, 8)
    assert labels_on_grid(y, (4, 4)).equal(y[:, 1::2, 1::2])
    assert labels_on_grid(y, (8, 8)).equal(y)


def test_the_first_prototypes_are_the_means_of_the_source_in_eval_mode():
    method, data = IDM(dense_network(), TASK), DensePlaces()
    method.train()
    method.prepare(data)
    with torch.no_grad():
        features = method.net.eval().body(data.x).movedim(1, -1)
    wanted = torch.stack([features[data.y == kind].mean(0) for kind in range(3)])
    torch.testing.assert_close(method.prototypes.means, wanted, rtol=1e-4, atol=1e-5)
    assert cosines(wanted, wanted).diagonal().allclose(torch.ones(3))


def test_batch_norms_follow_mixed_images_and_target_and_not_what_chooses():
    method, rows = IDM(source_trained(), TASK, mixed=0.0), batch()
    method.train()
    norm = method.net.body[1]
    before = norm.running_mean.clone()
    torch.manual_seed(0)
    with torch.no_grad():
        x, _, _ = method.mix(rows)
        assert torch.equal(norm.running_mean, before)
        assert norm.training
        method.learn(x, rows.labeled.y[: len(x)], rows.unlabeled.x)
        first = method.net.body[0]
        ours, theirs = (first(one).mean((0, 2, 3)) for one in (x, rows.unlabeled.x))
    torch.testing.assert_close(norm.running_mean, 0.9 * (0.9 * before + 0.1 * ours) + 0.1 * theirs)
    assert norm.num_batches_tracked == source_trained().body[1].num_batches_tracked + 2


@pytest.mark.parametrize("seed", [0, 1])
def test_one_image_of_the_target_is_enough_to_learn_it(seed):
    data = FewOfTheTarget(1)
    scores = {}
    for name, make in {"alone": FineTune, "idm": IDM}.items():
        method = make(source_trained(seed), TASK)
        for epoch in fit(method, data, PLAN):
            assert all(map(math.isfinite, epoch.terms.values()))
        scores[name] = data.accuracy(method)
    assert scores["idm"] > scores["alone"] + 10


def test_less_of_the_source_is_learnt_from_than_is_seen():
    method, rows = IDM(source_trained(), TASK, informative=0.25), batch()
    x, y, _ = method.mix(rows)
    assert (len(rows.labeled), len(x), len(y)) == (24, 6, 6)


def test_labels_of_a_target_are_those_of_probability():
    logits = torch.tensor([[[2.0, 0.1, -9.0], [0.0, 0.0, 0.0]]])
    assert sure_labels(logits, 0.8).tolist() == [[0, 255, 1]]
