"""MemSPM: how a memory is asked, clusters matched with classes, and what that changes."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_methods_on_digits import Digits, of_the_source
from toy import CLASSES, TwoDomains, body, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.unsupervised.memspm import MemSPM
from adaptune.networks.layers.sub_prototypes import SubPrototypes, address
from adaptune.networks.network import Network
from adaptune.ops.cluster_matching import NONE, contrastive_discrepancy, match_clusters
from adaptune.ops.discrepancy import gaussian_kernels
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
SMALL = {"items": 6, "parts": 3, "nearest": 2}


def made(**options: object) -> MemSPM:
    return MemSPM(trained(), TASK, **(SMALL | options))


def test_addressing_is_the_papers_and_adds_up_to_one_over_the_nearest():
    torch.manual_seed(0)
    z, memory = torch.randn(7, 4).double(), torch.randn(6, 3, 4).double()
    weights, part = address(z, memory, 2)
    read = SubPrototypes(torch.nn.Identity(), width=4, items=6, parts=3, nearest=2).double()
    read.memory.data = memory
    told = read(z)
    for n in range(7):
        cosines = [[F.cosine_similarity(z[n], m, dim=0) for m in item] for item in memory]
        best = torch.stack([max(item) for item in cosines])
        assert part[n].tolist() == [torch.stack(item).argmax().item() for item in cosines]
        chance = best.exp() / best.exp().sum()
        kept = torch.where(chance >= chance.sort(descending=True).values[1], chance, 0)
        kept = kept / kept.sum()
        torch.testing.assert_close(weights[n], kept)
        wanted = sum(w * memory[i, part[n, i]] for i, w in enumerate(kept))
        torch.testing.assert_close(told[n], wanted)
    assert ((weights > 0).sum(1) == 2).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(7).double())


def test_the_terms_are_the_formulas_in_float64():
    method, data = made(batchnorm="eval"), TwoDomains()
    method.prepare(data)
    method.refresh(data)
    method.double()
    rows = replace(next(data.batches(method.needs, 0)), progress=0.4)
    ours, theirs = (replace(one, x=one.x.double()) for one in (rows.labeled, rows.unlabeled))
    terms = method.objective(replace(rows, labeled=ours, unlabeled=theirs)).terms
    net = method.net
    z = net.body.body(torch.cat([ours.x, theirs.x]))
    read, count = net.body.read(z), len(ours)
    wanted = F.cross_entropy(net.head(read[:count]), ours.y)
    assert terms["task"].item() == pytest.approx(wanted.item())
    told = (method.decoder(read) - z).square().mean()
    assert terms["told"].item() == pytest.approx(0.1 * told.item())
    unit, total = F.normalize(read[count:]).detach(), 0.0
    there = int(method.matched.centres.any(1).sum())
    for row, one in enumerate(unit):
        p = (method.matched.centres[:there] @ one / 0.1).softmax(0)
        total -= float(p[method.matched.clusters[theirs.index[row]]].detach().log())
    wanted = math.exp(-3 * 0.6) * total / len(unit)
    assert terms["clusters"].item() == pytest.approx(wanted)
    labels = method.matched.labels[theirs.index]
    apart = contrastive_discrepancy(read[:count], ours.y, read[count:], labels, 3)
    assert terms["discrepancy"].item() == pytest.approx(0.1 * apart.item())


def test_the_discrepancy_is_small_within_classes_and_large_between_them():
    torch.manual_seed(0)
    x, y = torch.randn(9, 2).double(), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])
    z, labels = torch.randn(7, 2).double(), torch.tensor([0, 0, 1, NONE, 1, 1, NONE])
    kernels = gaussian_kernels(torch.cat([x, z]))

    def mmd(a: int, b: int) -> float:
        one = [i for i in range(9) if y[i] == a]
        other = [9 + i for i in range(7) if labels[i] == b]
        means = [
            sum(float(kernels[i, j]) for i in p for j in q) / len(p) / len(q)
            for p, q in ((one, one), (other, other), (one, other))
        ]
        return means[0] + means[1] - 2 * means[2]

    wanted = (mmd(0, 0) + mmd(1, 1)) / 2 - (mmd(0, 1) + mmd(1, 0)) / 2
    found = contrastive_discrepancy(x, y, z, labels, 3)
    assert found.item() == pytest.approx(wanted)
    none = torch.full((7,), NONE)
    assert contrastive_discrepancy(x, y, z, none, 3).item() == 0


def test_clusters_are_matched_both_ways_and_those_of_no_class_are_left_alone():
    torch.manual_seed(0)
    way = torch.eye(4)
    source = way[:3].repeat(10, 1) + 0.05 * torch.randn(30, 4)
    y = torch.arange(3).repeat(10)
    target = torch.cat([way[[0, 1, 3]].repeat(10, 1), -way[:1].repeat(3, 1)])
    target = target + 0.05 * torch.randn(33, 4)
    found = match_clusters(source, y, target, classes=3, counts=[4])
    assert found.labels.tolist() == [0, 1, NONE] * 10 + [NONE] * 3
    assert len(found.centres) == 4


def test_a_saved_network_keeps_its_memory(tmp_path):
    method = made().eval()
    method.net.save(tmp_path)
    x = TwoDomains().target[:5]
    again = Network.load(tmp_path, module=body()).eval()
    torch.testing.assert_close(again(x), method(x))


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_the_encoder_keeps_its_weights_and_its_batch_norms_follow_the_target(batchnorm):
    method = made(batchnorm=batchnorm)
    encoder = method.prototypes.body
    before = [value.clone() for value in encoder.parameters()]
    means = [norm.running_mean.clone() for _, norm in batchnorms(encoder)]
    memory = method.prototypes.memory.clone()
    for _ in fit(method, TwoDomains(cast=0.5), Plan(epochs=1)):
        pass
    assert all(map(torch.equal, before, encoder.parameters()))
    now = [norm.running_mean for _, norm in batchnorms(encoder)]
    assert [torch.equal(*two) for two in zip(means, now, strict=True)] == [batchnorm == "eval"] * 2
    assert not torch.equal(memory, method.prototypes.memory)


def test_matching_reads_digits_in_another_light_better_with_all_of_the_encoder_held():
    method, data = MemSPM(deepcopy(of_the_source()), Classification(10), batchnorm="eval"), Digits()
    before = data.accuracy(of_the_source())
    for _ in fit(method, data, Plan(epochs=8)):
        pass
    assert data.accuracy(method) > before + 10


def test_different_images_of_a_class_ask_different_parts():
    method, data = made(), TwoDomains()
    method.prepare(data)
    weights, part = address(method.prototypes.body(data.x), method.prototypes.memory, 2)
    best = weights.argmax(1)
    asked = torch.stack([best, part.gather(1, best[:, None]).squeeze(1)], 1)
    assert len(asked[data.y == 0].unique(dim=0)) > 2


def test_what_cannot_be_is_refused():
    for options in ({"items": 0}, {"nearest": 0}, {"parts": 10**7}):
        with pytest.raises(ValueError, match="a memory has"):
            made(**options)
