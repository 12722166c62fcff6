"""MinEnt: the source's labels and certainty on the target, in images and at places."""

from __future__ import annotations

import math

import pytest
import torch
from places import DensePlaces, dense_network
from toy import CLASSES, TwoDomains, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.unsupervised.minent import MinEnt
from adaptune.ops.information import uncertainty
from adaptune.ops.rows import rows
from adaptune.tasks.classification import Classification
from adaptune.tasks.segmentation import Segmentation
from adaptune.types import Needs

BOTH = Needs(unlabeled=True)
IMAGES, MASKS = Classification(len(CLASSES)), Segmentation(len(CLASSES))


@pytest.mark.parametrize(
    ("net", "task", "data"),
    [(network, IMAGES, TwoDomains), (dense_network, MASKS, DensePlaces)],
    ids=["images", "masks"],
)
def test_the_terms_are_the_papers_in_float64(net, task, data):
    method, known = MinEnt(net(), task, weight=0.3).double().eval(), data()
    known.x, known.target = known.x.double(), known.target.double()
    batch = next(known.batches(BOTH, 0))
    terms = method.objective(batch).terms
    p = rows(method.net(batch.unlabeled.x)).softmax(1)
    shares = torch.stack([-(one * one.log()).sum() / math.log(3) for one in p])
    assert terms["entropy"].item() == pytest.approx(0.3 * shares.mean().item())
    wanted = task.loss(method.net(batch.labeled.x), batch.labeled.y)
    assert terms["task"].item() == pytest.approx(wanted.item())


def test_without_weight_and_target_statistics_it_is_fine_tuning():
    def weights(method) -> torch.Tensor:
        for _ in fit(method, TwoDomains(), Plan(epochs=2)):
            pass
        return torch.cat([one.flatten() for one in method.net.parameters()])

    alone = weights(FineTune(network(), IMAGES, lr=0.03, batchnorm="eval"))
    none = weights(MinEnt(network(), IMAGES, lr=0.03, weight=0.0, batchnorm="eval"))
    some = weights(MinEnt(network(), IMAGES, lr=0.03, weight=0.1, batchnorm="eval"))
    torch.testing.assert_close(alone, none)
    assert not torch.allclose(alone, some, atol=1e-4)


def test_places_of_the_target_grow_certain_that_the_source_alone_leaves_unsure():
    def unsure(make) -> float:
        method, data = make(dense_network()), DensePlaces(tint=0.6)
        for _ in fit(method, data, Plan(epochs=4, layout="contiguous")):
            pass
        return float(uncertainty(method.eval()(data.target)).mean().detach())

    alone = unsure(lambda net: FineTune(net, MASKS, batchnorm="eval"))
    assert unsure(lambda net: MinEnt(net, MASKS, batchnorm="eval", weight=0.3)) < 0.9 * alone


def test_a_class_that_is_lost_in_part_is_found_where_most_of_it_is_right():
    def reached(make) -> float:
        method, data = make(network(2)), TwoDomains(tint=0.5)
        for _ in fit(method, data, Plan(epochs=12, seed=2, layout="contiguous")):
            pass
        return data.accuracy(method)

    alone = reached(lambda net: FineTune(net, IMAGES, batchnorm="eval"))
    assert reached(lambda net: MinEnt(net, IMAGES, batchnorm="eval", weight=0.1)) > alone + 10


def test_in_train_mode_running_statistics_follow_the_source_then_the_target():
    method, data = MinEnt(network(), IMAGES), TwoDomains()
    batch, norm = next(data.batches(BOTH, 0)), method.net.body[1]
    mean = norm.running_mean.clone()
    method.train().objective(batch)
    for side in (batch.labeled, batch.unlabeled):
        mean = 0.9 * mean + 0.1 * method.net.body[0](side.x).mean((0, 2, 3)).detach()
    torch.testing.assert_close(norm.running_mean, mean)
