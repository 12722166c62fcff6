"""Tip-Adapter: remembered images count beside texts."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, domains, network
from words import words_network, words_of

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.tip_adapter import TipAdapter
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def run(epochs: int = 1, **options: object) -> TipAdapter:
    method = TipAdapter(words_network(), TASK, **options)
    for _ in fit(method, domains(20), Plan(epochs=epochs)):
        pass
    return method.eval()


def accuracy(net) -> float:
    return evaluate(net, domains().scan("test"), TASK).scores.main.value


def test_logits_are_the_formula_in_float64():
    method = run(learn=False, alpha=2.0, beta=3.0).double()
    net, joint = method.net, method.net.head.joint
    x = next(iter(domains().scan("test"))).x.double()[:5]
    rows = list(domains(20).scan("train"))
    shown, y = torch.cat([one.x for one in rows]), torch.cat([one.y for one in rows])

    def unit(images: torch.Tensor) -> torch.Tensor:
        own = joint.project(net.body(images.double()))
        return own / own.norm(dim=1, keepdim=True)

    own, keys = unit(x), unit(shown)
    wanted = joint.log_warmth.exp() * own @ net.head.anchors.T
    for row, one in enumerate(own):
        for key, label in zip(keys, y, strict=True):
            wanted[row, label] += 2 * torch.exp(-3 * (1 - one @ key))
    assert torch.allclose(net(x), wanted, rtol=1e-5)


def test_images_help_where_texts_are_wrong_and_learning_moves_what_is_remembered_alone():
    zero = accuracy(words_network())
    fixed = run(learn=False, alpha=10.0)
    assert accuracy(fixed.net) > zero + 20
    assert fixed.groups() == []
    fixed, learnt = run(learn=False, alpha=0.05), run(3, alpha=0.05, lr=0.1)
    before, after = fixed.net.state_dict(), learnt.net.state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved == {"head.remembered.keys"}


def test_without_weight_it_is_the_zero_shot_network():
    x = next(iter(domains().scan("test"))).x
    assert torch.allclose(run(learn=False, alpha=0.0).net(x), words_network()(x), atol=1e-5)


def test_what_is_saved_remembers():
    method = run(learn=False)
    x = next(iter(domains().scan("test"))).x
    other = words_of(network())
    other.operate(**{"name": "remember", **method.net.surgery[-1]["arguments"]})
    other.load_plain(method.net.plain_state())
    assert torch.allclose(other.eval()(x), method(x), atol=1e-5)


def test_norms_keep_to_their_running_statistics():
    method = run(learn=True)
    for name, value in words_network().body.state_dict().items():
        assert torch.equal(method.net.body.state_dict()[name], value)


def test_what_cannot_be_is_refused():
    for wrong in ({"alpha": -1.0}, {"beta": 0.0}):
        with pytest.raises(ValueError, match="alpha is a weight"):
            TipAdapter(words_network(), TASK, **wrong)
    for rows in (0, 10**7):
        with pytest.raises(ValueError, match="images are remembered"):
            words_network().operate("remember", rows=rows, share=1.0, sharpness=1.0)
    with pytest.raises(ValueError, match="beside texts of classes"):
        network().operate("remember", rows=1, share=1.0, sharpness=1.0)
