"""CoCoOp: every image adds to the vectors of the texts that it is compared with."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, domains
from words import IDS, words_network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.cocoop import CoCoOp
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES))


def rows(count: int = 4) -> Batch:
    own = next(iter(domains().batches(CoCoOp.needs, 0))).labeled
    return Batch(
        Labeled(own.x[:count].double(), own.domain[:count], own.index[:count], y=own.y[:count])
    )


def test_the_loss_is_that_of_each_images_own_texts_in_float64():
    method, batch = CoCoOp(words_network(), TASK, context=2).double().eval(), rows()
    head, prompts = method.net.head, method.prompts
    joint, tower = head.joint, head.joint.tower
    losses = []
    for x, y in zip(batch.labeled.x, batch.labeled.y, strict=True):
        image = joint.project(method.net.body(x[None]))[0]
        image = image / image.norm()
        first, _, second = prompts.told
        added = second.weight @ (first.weight @ image + first.bias).relu() + second.bias
        anchors = []
        for c in range(3):
            mean = torch.zeros(6, dtype=torch.float64)
            for row in IDS[2 * c : 2 * c + 2]:
                read = torch.cat([prompts.vectors[0] + added, tower.words(row[1:][row[1:] != 0])])
                text = tower.layer((read + tower.places[: len(read)])[None])[0].mean(0)
                text = joint.other.weight @ text
                mean = mean + text / text.norm()
            anchors.append(mean / mean.norm())
        losses.append(-(joint.log_warmth.exp() * torch.stack(anchors) @ image).log_softmax(0)[y])
    wanted = torch.stack(losses).mean()
    assert method.objective(batch).total.item() == pytest.approx(wanted.item(), rel=1e-9)


def test_it_learns_and_only_prompts_move():
    method = CoCoOp(words_network(), TASK, lr=0.03)
    before = {key: value.clone() for key, value in method.net.state_dict().items()}
    for _ in fit(method, domains(), Plan(epochs=5)):
        pass
    after = method.net.state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved == {key for key in after if key.startswith("head.prompts.")}
    scores = [
        evaluate(net, domains().scan("test"), TASK).scores.main.value
        for net in (words_network(), method.net)
    ]
    assert scores[1] > scores[0] + 20


def test_norms_keep_to_their_running_statistics():
    method, batch = CoCoOp(words_network(), TASK).double(), rows()
    method.train()
    before = method.net.body[1].running_mean.clone()
    method.objective(batch)
    assert torch.equal(before, method.net.body[1].running_mean)


def test_no_vector_is_refused():
    with pytest.raises(ValueError, match="--context is a number of vectors"):
        CoCoOp(words_network(), TASK, context=0)
