"""What methods ask of outputs at every place is a mean over places, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from places import DensePlaces, dense_network
from toy import CLASSES

from adaptune.methods.generalisation.drm import DRM
from adaptune.methods.source_free.adabn import AdaBN
from adaptune.methods.supervised.tram import divergence
from adaptune.methods.test_time.alpha_bn import class_correlation
from adaptune.methods.test_time.tent import Tent
from adaptune.methods.unsupervised.dann import DANN
from adaptune.methods.unsupervised.mcd import MCD
from adaptune.ops.rows import rows
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Needs

TASK = Segmentation(len(CLASSES))


def batch(**needs: object) -> Batch:
    data = DensePlaces(sources=int(needs.get("domains", 1)))
    data.x, data.target = data.x.double(), data.target.double()
    return next(data.batches(Needs(unlabeled=True, **needs), 0))


def by_place(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Give the mean over images of the mean cross-entropy of the places that have a class."""
    each = []
    for own, mask in zip(logits.log_softmax(1), y, strict=True):
        asked = mask != 255
        picked = own.permute(1, 2, 0)[asked].gather(1, mask[asked][:, None])
        each.append(-picked.mean())
    return torch.stack(each).mean()


def test_the_entropy_of_tent_is_a_mean_over_places():
    method, some = Tent(dense_network().double(), TASK), batch(labeled=False)
    done = method.objective(some)
    p = rows(done.logits.detach()).softmax(1)
    assert float(done.total.detach()) == pytest.approx(float(-(p * p.log()).sum() / len(p)))


def test_the_discrepancy_of_mcd_is_a_mean_over_places_and_classes():
    method, some = MCD(dense_network(), TASK).double().eval(), batch()
    features = method.net.body(some.unlabeled.x)
    one, other = (rows(head(features)).softmax(1) for head in (method.net.head, method.second))
    wanted = (one - other).abs().sum() / one.numel()
    assert float(method.agreement(some).total.detach()) == pytest.approx(float(wanted.detach()))
    ours = method.net.body(some.labeled.x)
    both = [by_place(head(ours), some.labeled.y) for head in (method.net.head, method.second)]
    assert float(method.labels(some).total.detach()) == pytest.approx(float(sum(both).detach()))


def test_the_critic_of_dann_reads_every_place():
    method, some = DANN(dense_network(), TASK, hidden=8).double().eval(), batch()
    terms = method.objective(some).terms
    said = [rows(method.net.body(side.x)) for side in (some.labeled, some.unlabeled)]
    ours, theirs = (method.critic(one).squeeze(1).sigmoid() for one in said)
    wanted = -(ours.log().mean() + (1 - theirs).log().mean()) / 2
    assert terms["domain"].item() == pytest.approx(wanted.item())
    logits = method.net(some.labeled.x)
    assert terms["task"].item() == pytest.approx(by_place(logits, some.labeled.y).item())


def test_each_domains_head_of_drm_learns_from_the_places_of_its_images():
    some = batch(domains=2)
    method = DRM(dense_network(), replace(TASK, domains=2)).double().eval()
    terms = method.objective(some).terms
    features = method.net.body(some.labeled.x)
    for name, heads in (("own", method.heads.own), ("shared", [method.heads.shared] * 2)):
        means = []
        for number, head in enumerate(heads):
            mine = some.labeled.domain == number
            means.append(by_place(head(features[mine]), some.labeled.y[mine]))
        assert terms[name].item() == pytest.approx(sum(means).item() / 4)


def test_the_divergence_of_tram_and_the_correlation_of_alpha_bn_are_of_places():
    torch.manual_seed(0)
    one, other = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    p, q = rows(one).softmax(1), rows(other).softmax(1)
    found = divergence(one.float(), other.float())
    assert float(found) == pytest.approx(float((p * (p / q).log()).sum() / len(p)), rel=1e-5)
    correlation = p.T @ p
    wanted = 1 - (correlation.diagonal() / correlation.sum(1)).mean()
    assert float(class_correlation(p)) == pytest.approx(float(wanted))


def test_statistics_that_adabn_takes_anew_are_those_of_all_places():
    data = DensePlaces()
    method = AdaBN(dense_network(), TASK)
    method.prepare(data)
    seen = rows(method.net.body[0](data.target)).detach()
    torch.testing.assert_close(method.net.body[1].running_mean, seen.mean(0))
    torch.testing.assert_close(method.net.body[1].running_var, seen.var(0))
