"""CoOp: vectors in the place of tokens, which alone learn and are saved."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, domains
from words import IDS, words_network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.coop import CoOp
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES))


def rows(count: int = 6) -> Batch:
    own = next(iter(domains().batches(CoOp.needs, 0))).labeled
    return Batch(
        Labeled(own.x[:count].double(), own.domain[:count], own.index[:count], y=own.y[:count])
    )


@pytest.mark.parametrize("per_class", [False, True])
def test_the_loss_is_that_of_texts_read_with_the_vectors_in_float64(per_class):
    method = CoOp(words_network(), TASK, context=3, per_class=per_class).double().eval()
    batch, head = rows(), method.net.head
    joint, tower = head.joint, head.joint.tower
    vectors = method.prompts.vectors
    assert vectors.shape == (3 if per_class else 1, 3, 8)
    anchors = []
    for c in range(3):
        texts = []
        for row in IDS[2 * c : 2 * c + 2]:
            own = vectors[c if per_class else 0]
            # all texts begin with one word, so two vectors stand before the place of that
            read = torch.cat([own, tower.words(row[1:][row[1:] != 0])])
            text = tower.layer((read + tower.places[: len(read)])[None])[0].mean(0)
            text = joint.other.weight @ text
            texts.append(text / text.norm())
        mean = sum(texts)
        anchors.append(mean / mean.norm())
    features = joint.project(method.net.body(batch.labeled.x))
    features = features / features.norm(dim=1, keepdim=True)
    logits = joint.log_warmth.exp() * features @ torch.stack(anchors).T
    wanted = -logits.log_softmax(1)[torch.arange(6), batch.labeled.y].mean()
    assert method.objective(batch).total.item() == pytest.approx(wanted.item(), rel=1e-9)


def test_one_vector_begins_as_what_stood_there_and_so_as_the_zero_shot_network():
    net, batch = words_network().double(), rows()
    said = net(batch.labeled.x)
    method = CoOp(net, TASK, context=1).double().eval()
    assert torch.allclose(method(batch.labeled.x), said, atol=1e-5)
    assert net.head.ids.shape == IDS.shape


@pytest.mark.parametrize("per_class", [False, True])
def test_it_learns_and_only_vectors_move(per_class):
    method = CoOp(words_network(), TASK, lr=0.03, per_class=per_class)
    before = {key: value.clone() for key, value in method.net.state_dict().items()}
    zero = evaluate(words_network(), domains().scan("test"), TASK).scores.main.value
    for _ in fit(method, domains(), Plan(epochs=6)):
        pass
    moved = {
        key for key, one in method.net.state_dict().items() if not torch.equal(one, before[key])
    }
    assert moved == {"head.prompts.vectors"}
    assert evaluate(method.net, domains().scan("test"), TASK).scores.main.value > zero + 20


def test_norms_keep_to_their_running_statistics():
    method, batch = CoOp(words_network(), TASK).double(), rows()
    method.train()
    before = method.net.body[1].running_mean.clone()
    logits = method.objective(batch).logits
    assert torch.equal(before, method.net.body[1].running_mean)
    assert torch.allclose(logits, method.eval()(batch.labeled.x))


def test_no_vector_and_more_than_the_tower_reads_are_refused():
    with pytest.raises(ValueError, match="--context is a number of vectors, at least 1: got 0"):
        CoOp(words_network(), TASK, context=0)
    with pytest.raises(ValueError, match="43 tokens, and their tower reads 24"):
        CoOp(words_network(), TASK, context=40)


def test_a_network_that_has_prompts_goes_on_with_them_and_takes_no_others():
    net = CoOp(words_network(), TASK, lr=0.3).net
    before = net.head.prompts.vectors.clone()
    assert torch.equal(CoOp(net, TASK).prompts.vectors, before)
    with pytest.raises(ValueError, match="other prompts than the 3"):
        CoOp(net, TASK, context=3)
