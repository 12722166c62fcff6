"""DACS: classes pasted, labels and weights by the teacher, the teacher's way of following."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from places import DensePlaces, dense_network
from toy import CLASSES

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.dacs import DACS
from adaptune.ops.mixing import class_halves, paste, row_draws
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Batch, Needs

TASK = Segmentation(len(CLASSES))


def batch() -> Batch:
    data = DensePlaces()
    data.x, data.target = data.x.double(), data.target.double()
    return next(data.batches(Needs(unlabeled=True), 0))


def made(**options: object) -> DACS:
    return DACS(dense_network(), TASK, **options).double()


def test_half_of_the_classes_rounded_up_is_chosen_and_places_without_one_never_are():
    torch.manual_seed(0)
    y = torch.randint(0, 5, (40, 6, 6))
    y[:, 0] = 255
    y[0], y[1] = 255, 3
    where = class_halves(y, torch.rand(40, 5))
    for mask, chosen in zip(y, where, strict=True):
        classes = {int(one) for one in mask.unique()} - {255}
        taken = {int(one) for one in mask[chosen].unique()}
        assert len(taken) == (len(classes) + 1) // 2
        assert torch.equal(chosen, torch.isin(mask, torch.tensor(list(taken))))
    assert not where[0].any()


def test_draws_belong_to_rows_whatever_their_order_and_to_the_generator_alone():
    index = torch.tensor([5, 2, 9])
    found = []
    for order in ([0, 1, 2], [2, 0, 1], [0, 1, 2]):
        torch.manual_seed(3)
        found.append(row_draws(index[order], 4))
    assert torch.equal(found[0][[2, 0, 1]], found[1])
    assert torch.equal(found[0], found[2])
    torch.manual_seed(4)
    assert not torch.equal(row_draws(index, 4), found[0])


def test_the_terms_are_the_papers_in_float64():
    method, some = made(sure=0.4).eval(), batch()
    torch.manual_seed(1)
    terms = method.objective(some).terms
    torch.manual_seed(1)
    where = class_halves(some.labeled.y, row_draws(some.labeled.index, 3))
    losses = []
    for at, chosen in enumerate(where):
        p = method.teacher(some.unlabeled.x[at : at + 1])[0].softmax(0)
        share = (p.amax(0) >= 0.4).double().mean()
        x = some.unlabeled.x[at].clone()
        x[:, chosen] = some.labeled.x[at][:, chosen]
        y = torch.where(chosen, some.labeled.y[at], p.argmax(0))
        logs = method.net(x[None])[0].log_softmax(0)
        losses.append(-share * logs.gather(0, y[None]).mean())
    assert terms["mixed"].item() == pytest.approx(torch.stack(losses).mean().item())
    wanted = TASK.loss(method.net(some.labeled.x), some.labeled.y)
    assert terms["task"].item() == pytest.approx(wanted.item())
    assert float(terms["mixed"].detach()) > 0.1


def test_nothing_is_learnt_of_mixed_images_while_the_teacher_is_unsure():
    terms = made(sure=1.1).eval().objective(batch()).terms
    assert float(terms["mixed"].detach()) == 0


def test_the_teacher_is_the_mean_at_first_and_later_keeps_its_share():
    method, some = made(decay=0.6), batch()
    method.prepare(DensePlaces())
    descend = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    assert [group.module for group in method.groups()] == [method.net]
    seen = []
    for turn in range(3):
        before = method.teacher.head.weight.clone()
        descend.at(0.0, 24)
        descend.part(1.0, first=True, last=True)
        method.step(some, descend)
        kept = min(1 - 1 / (turn + 1), 0.6)
        wanted = kept * before + (1 - kept) * method.net.head.weight
        torch.testing.assert_close(method.teacher.head.weight, wanted)
        seen.append(method.net.head.weight.clone())
    assert not torch.equal(seen[0], seen[1])
    assert not any(one.requires_grad for one in method.teacher.parameters())


def test_the_teacher_normalises_by_the_target_and_statistics_follow_source_then_mixed_images():
    method, some = made(), batch()
    mean, own = (net.body[1].running_mean.clone() for net in (method.net, method.teacher))
    torch.manual_seed(2)
    where = class_halves(some.labeled.y, row_draws(some.labeled.index, 3))
    torch.manual_seed(2)
    method.train().objective(some)
    for x in (some.labeled.x, paste(some.labeled.x, some.unlabeled.x, where)):
        mean = 0.9 * mean + 0.1 * method.net.body[0](x).mean((0, 2, 3)).detach()
    torch.testing.assert_close(method.net.body[1].running_mean, mean)
    own = 0.9 * own + 0.1 * method.teacher.body[0](some.unlabeled.x).mean((0, 2, 3))
    torch.testing.assert_close(method.teacher.body[1].running_mean, own)


def test_masks_of_another_size_than_their_images_are_refused():
    some = batch()
    small = replace(some, labeled=replace(some.labeled, y=some.labeled.y[:, ::2, ::2]))
    with pytest.raises(ValueError, match="make them one size"):
        made().objective(small)
    with pytest.raises(ValueError, match="from 0 to below 1"):
        made(decay=1.0)


@pytest.mark.parametrize("seed", range(2))
def test_the_target_is_labelled_better_than_from_the_source_alone(seed):
    def reached(make) -> float:
        method, data = make(dense_network(seed)), DensePlaces(tint=0.6)
        for _ in fit(method, data, Plan(epochs=8, seed=seed, layout="contiguous")):
            pass
        return data.accuracy(method)

    alone = reached(lambda net: FineTune(net, TASK))
    assert reached(lambda net: DACS(net, TASK, sure=0.7)) > alone + 5
