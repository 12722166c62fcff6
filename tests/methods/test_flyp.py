"""FLYP: the loss of pretraining, with captions of classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import CLASSES, domains, network
from words import words_network, words_of

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.method import refuse_head
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.flyp import FLYP, captions
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES))


def rows(count: int = 9) -> Batch:
    batch = next(iter(domains().batches(FLYP.needs, 0)))
    own = batch.labeled
    return Batch(
        Labeled(own.x[:count].double(), own.domain[:count], own.index[:count], y=own.y[:count])
    )


def expected(method: FLYP, batch: Batch, drawn: torch.Tensor, collide: bool) -> torch.Tensor:
    """Give the loss row by row from the equation."""
    head = method.net.head
    joint = head.joint
    images = method.net.body(batch.labeled.x) @ joint.project.weight.T
    texts = joint.tower(head.ids[drawn]) @ joint.other.weight.T
    images, texts = (one / one.norm(dim=1, keepdim=True) for one in (images, texts))
    alike = (joint.log_warmth.exp() * images @ texts.T).exp()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(drawn)):
        others = [j for j in range(len(drawn)) if collide or j == i or drawn[j] != drawn[i]]
        total = total - (alike[i, i] / sum(alike[i, j] for j in others)).log() / 2
        total = total - (alike[i, i] / sum(alike[j, i] for j in others)).log() / 2
    return total / len(drawn)


@pytest.mark.parametrize("collide", [True, False])
def test_the_loss_is_the_contrast_with_drawn_captions_in_float64(collide):
    method, batch = FLYP(words_network(), TASK, collide=collide).double().eval(), rows()
    torch.manual_seed(3)
    found = method.objective(batch)
    torch.manual_seed(3)
    drawn = captions(method.net.head.owner, batch.labeled.y)
    wanted = expected(method, batch, drawn, collide)
    assert found.total.item() == pytest.approx(wanted.item(), rel=1e-9)
    own = method.net.head.joint(method.net.body(batch.labeled.x))
    assert torch.allclose(found.logits, own)


def test_captions_are_of_the_rows_own_classes_and_all_of_them_are_drawn():
    owner, y = torch.tensor([0, 1, 1, 2]), torch.tensor([1] * 60 + [2, 0])
    drawn = captions(owner, y)
    assert torch.equal(owner[drawn], y)
    assert set(drawn[:60].tolist()) == {1, 2}


def test_tower_and_body_move_and_what_is_saved_predicts_as_the_method_did():
    method = FLYP(words_network(), TASK, lr=0.03)
    head = method.net.head
    before, anchors = head.joint.tower.words.weight.clone(), head.anchors.clone()
    for _ in fit(method, domains(), Plan(epochs=1)):
        pass
    assert not torch.equal(before, head.joint.tower.words.weight)
    x = rows().labeled.x.float()
    method.eval()
    said = method(x)
    kept = method.net.plain_state()
    assert not torch.equal(anchors, kept["joint.anchors"])
    other = words_of(network())
    other.load_plain(kept)
    assert torch.allclose(other.eval()(x), said, atol=1e-5)


def test_norms_are_in_train_mode_unless_held():
    for policy, moves in (("train", True), ("eval", False)):
        method = FLYP(words_network(), TASK, batchnorm=policy).double().train()
        before = method.net.body[1].running_mean.clone()
        method.objective(rows())
        assert torch.equal(before, method.net.body[1].running_mean) != moves


def test_interpolated_to_nothing_it_is_the_zero_shot_network():
    net = words_network()
    zero = evaluate(words_network(), domains().scan("test"), TASK).scores.main.value
    for _ in fit(FLYP(net, TASK, lr=0.03), domains(), Plan(epochs=1, interpolate=0.0)):
        pass
    net.head.fold()
    assert evaluate(net, domains().scan("test"), TASK).scores.main.value == pytest.approx(zero)


def test_weights_between_are_those_of_wise_ft():
    def weights(share: float) -> torch.Tensor:
        method = FLYP(words_network(), TASK, lr=0.03)
        for _ in fit(method, domains(), replace(Plan(epochs=1), interpolate=share)):
            pass
        return method.net.head.joint.tower.words.weight.detach().clone()

    zero, half, whole = weights(0.0), weights(0.5), weights(1.0)
    assert torch.equal(zero, words_network().head.joint.tower.words.weight)
    assert torch.allclose(half, (zero + whole) / 2, atol=1e-6)


def test_a_network_whose_classes_are_no_texts_is_refused():
    with pytest.raises(ValueError, match="FLYP works on networks whose head is a Words"):
        refuse_head(FLYP, network())
