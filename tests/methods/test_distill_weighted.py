"""DistillWeighted: scores of teachers, their weights, the loss, and the nearest one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import CLASSES, TwoDomains, body, network, trained

from adaptune.methods.semi_supervised.distill_weighted import DistillWeighted, shares
from adaptune.networks.network import Network
from adaptune.networks.reference import Reference
from adaptune.ops.similarity import parc
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES))


def stranger(seed: int = 3) -> Network:
    """Give a network of other classes that sees no colours, which are the toy's classes."""
    torch.manual_seed(seed)
    module = body()
    with torch.no_grad():
        first = module[0].weight
        first.copy_(first.mean(1, keepdim=True).expand_as(first))
    return Network.from_module(module, head="8", classes=["cat", "dog", "eel", "fox", "gnu"])


def made(**options) -> DistillWeighted:
    look = network().preprocess
    teachers = tuple(Reference(one, look) for one in (stranger(), trained(1)))
    return DistillWeighted(network(), TASK, teachers, **options).double().train()


def doubled(batch: Batch) -> Batch:
    return Batch(*(replace(one, x=one.x.double()) for one in (batch.labeled, batch.unlabeled)))


class Doubled(TwoDomains):
    def scan(self, split, *, shuffled=False):
        for rows in super().scan(split, shuffled=shuffled):
            yield replace(rows, x=rows.x.double())


def rank(values: torch.Tensor) -> torch.Tensor:
    """Give ranks, of equal values their mean."""
    below = (values[:, None] > values[None]).sum(1).double()
    return below + ((values[:, None] == values[None]).sum(1) - 1) / 2


def test_parc_is_the_rank_correlation_of_distances():
    random = torch.Generator().manual_seed(0)
    y = torch.arange(12) % 3
    features = torch.randn(12, 5, generator=random, dtype=torch.float64) + y[:, None]
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    pairs = [(a, b) for a in range(12) for b in range(a + 1, 12)]
    apart = torch.stack([1 - torch.corrcoef(scaled[list(pair)])[0, 1] for pair in pairs])
    labels = torch.tensor([float(y[a] != y[b]) for a, b in pairs], dtype=torch.float64)
    wanted = torch.corrcoef(torch.stack([rank(apart), rank(labels)]))[0, 1]
    assert parc(features, y) == pytest.approx(wanted.item(), abs=1e-9)


def test_parc_of_labels_themselves_is_one_and_of_nothing_to_compare_zero():
    y = torch.arange(20) % 4
    assert parc(torch.nn.functional.one_hot(y).float(), y) == pytest.approx(1)
    assert parc(torch.ones(20, 3), y) == 0
    assert parc(torch.randn(20, 3), torch.zeros(20).long()) == 0
    assert parc(torch.randn(2, 3), torch.tensor([0, 1])) == 0


def test_weights_go_from_even_to_the_best_alone():
    scores = torch.tensor([0.3, -0.2, 0.6], dtype=torch.float64)
    assert torch.allclose(shares(scores, 0.0)[[0, 2]], torch.tensor([1 / 3, 1 / 3]).double())
    assert torch.allclose(shares(scores, 2.0), torch.tensor([0.2, 0.0, 0.8]).double())
    assert torch.allclose(shares(scores, 1e6), shares(scores, 1.0, nearest=True))
    assert torch.allclose(shares(-scores.abs(), 2.0), torch.full((3,), 1 / 3).double())


@pytest.mark.parametrize("nearest", [False, True])
def test_the_terms_are_those_of_the_formula(nearest):
    method = made(batchnorm="eval", supervised=0.7, power=1.0, nearest=nearest)
    data = Doubled()
    notes = method.prepare(data)
    weights, scores = notes["weights"], notes["similarity"]
    for one, score in zip(method.known, scores, strict=True):
        seen = torch.cat([one.features(rows.x) for rows in data.scan("train")])
        assert score == pytest.approx(parc(seen, data.y), abs=1e-9)
    sound = [max(score, 0.0) for score in scores]
    assert weights == pytest.approx([0, 1] if nearest else [s / sum(sound) for s in sound])
    batch = doubled(next(data.batches(method.needs, 0)))
    x, y, more = batch.labeled.x, batch.labeled.y, batch.unlabeled.x
    logs = method.net(x).log_softmax(1)
    terms = method.objective(batch).terms
    task = -logs[torch.arange(len(y)), y].mean()
    assert terms["task"].item() == pytest.approx(0.7 * task.item(), rel=1e-9)
    told = 0.0
    for weight, one, head in zip(weights, method.known, method.heads, strict=True):
        said, learnt = one(more).softmax(1), head(method.net.body(more)).log_softmax(1)
        told += weight * -(said * learnt).sum(1).mean().item()
    assert terms["distilled"].item() == pytest.approx(0.3 * told, rel=1e-9)


def test_the_teacher_of_the_same_task_weighs_most_and_classes_may_be_any():
    method = made()
    notes = method.prepare(Doubled())
    assert notes["similarity"][1] > notes["similarity"][0]
    assert notes["weights"][1] > 0.9
    assert [head.out_features for head in method.heads] == [5, 3]


def test_weights_are_state_and_teachers_are_not():
    assert {key.partition(".")[0] for key in made().state_dict()} == {"net", "heads", "weights"}
