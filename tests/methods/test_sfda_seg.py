"""SFDA-seg: a weighted entropy, shares held to a prior, and where that comes from."""

from __future__ import annotations

import pytest
import torch
from dense_start import source_trained
from places import DensePlaces
from toy import CLASSES

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.sfda_seg import SFDASeg
from adaptune.ops.rows import rows
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch

TASK = Segmentation(len(CLASSES))


def made(**options: object) -> tuple[SFDASeg, Batch, DensePlaces]:
    method, data = SFDASeg(source_trained(), TASK, **options).double(), DensePlaces()
    data.target = data.target.double()
    method.prepare(data)
    return method.eval(), next(data.batches(method.needs, 0)), data


@pytest.mark.parametrize("of", ["image", "batch"])
def test_the_terms_are_the_papers_in_float64(of):
    method, batch, _ = made(prior="0.5,0.3,0.2", of=of, weight=0.4)
    done = method.objective(batch)
    p = done.logits.softmax(1)
    prior = torch.tensor([0.5, 0.3, 0.2]).double()
    counts = [one / (1 / 0.5 + 1 / 0.3 + 1 / 0.2) for one in (1 / 0.5, 1 / 0.3, 1 / 0.2)]
    each = sum(-w * p[:, k] * p[:, k].log() for k, w in enumerate(counts))
    assert done.terms["certain"].item() == pytest.approx(each.mean().item())
    shares = torch.stack([rows(one[None]).mean(0) for one in p])
    shares = shares if of == "image" else shares.mean(0)[None]
    each = [(one * (one / prior).log()).sum() for one in shares]
    wanted = 0.4 * torch.stack(each).mean().item()
    assert done.terms["shares"].item() == pytest.approx(wanted)


def test_without_a_prior_it_is_what_the_network_predicts_of_the_whole_target():
    method, _, data = made()
    with torch.no_grad():
        p = rows(method.net(data.target)).softmax(1).mean(0)
    torch.testing.assert_close(method.shares, p)
    told = method.prepare(data)["prior"]
    assert list(told) == list(CLASSES)
    assert sum(told.values()) == pytest.approx(1)


def test_entropy_alone_loses_classes_which_the_prior_keeps():
    def labelled(weight: float) -> tuple[float, float]:
        net, data = source_trained(), DensePlaces(tint=1.0)
        options = {"batchnorm": "eval", "of": "batch", "prior": "0.34,0.33,0.33", "lr": 0.01}
        method = SFDASeg(net, TASK, weight=weight, **options)
        for _ in fit(method, data, Plan(epochs=6, layout="contiguous")):
            pass
        with torch.no_grad():
            guess = method.eval()(data.target).argmax(1)
        least = torch.bincount(guess.flatten(), minlength=3).min() / guess.numel()
        return float(least), data.accuracy(method)

    begun = DensePlaces(tint=1.0).accuracy(source_trained())
    (none, lost), (some, reached) = labelled(0.0), labelled(1.0)
    assert none < 0.02
    assert some > 0.15
    assert lost < begun < reached - 20


def test_the_target_is_labelled_better_than_before_and_statistics_follow_it_in_train_mode():
    net, data = source_trained(), DensePlaces(tint=1.0)
    before, mean = data.accuracy(net), net.body[1].running_mean.clone()
    method = SFDASeg(net, TASK, of="batch", prior="0.34,0.33,0.33")
    for _ in fit(method, data, Plan(epochs=6, layout="contiguous")):
        pass
    assert data.accuracy(method) > before + 10
    seen = net.body[0](data.target).mean((0, 2, 3)).detach()
    assert (net.body[1].running_mean - seen).norm() < 0.3 * (mean - seen).norm()


@pytest.mark.parametrize("prior", ["0.5,0.5", "0.5,0.4,0.3", "1.5,-0.5,0", "a,b,c"])
def test_a_prior_that_is_none_is_refused(prior):
    with pytest.raises(ValueError, match="3 shares that add up to 1"):
        SFDASeg(source_trained(), TASK, prior=prior)
    with pytest.raises(ValueError, match="an image or of a batch"):
        SFDASeg(source_trained(), TASK, of="set")
