"""GLC: one-vs-all clusters, neighbours, and images of no known class."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from toy import CLASSES, TwoDomains, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.source_free.glc import GLC
from adaptune.ops.clustering import cluster_count, kmeans, one_vs_all
from adaptune.ops.information import add_unknown_column
from adaptune.tasks.classification import Classification
from adaptune.types import Labeled

TASK = Classification(len(CLASSES))
OPEN = Classification(len(CLASSES), unknown=True)


class Open(TwoDomains):
    """The toy with as many images of three further classes: one channel is darker."""

    def __init__(self) -> None:
        super().__init__()
        random, y = torch.Generator().manual_seed(5), torch.arange(96) % 3
        strange = 0.6 * torch.randn(96, 3, 8, 8, generator=random) - 0.8
        strange[torch.arange(96), y] -= 1.0
        self.target = torch.cat([self.target, strange])
        self.truth = torch.cat([self.truth, torch.full((96,), 3)])

    def scores(self, method):
        rows = torch.arange(len(self.target))
        batch = Labeled(self.target, rows * 0, rows, y=self.truth)
        return evaluate(method, [batch], method.task).scores


def rejecting_net(seed=0):
    """The trained network, with the paper's threshold."""
    net = trained(seed)
    net.threshold = 0.55
    return net


def test_the_terms_are_the_papers():
    method, data = GLC(trained(), TASK, batchnorm="eval"), TwoDomains(cast=0.5)
    method.prepare(data)
    method.refresh(data)
    method.double()
    batch = next(iter(data.batches(method.needs, 0)))
    some = replace(batch.unlabeled, x=batch.unlabeled.x.double())
    terms = method.objective(replace(batch, unlabeled=some)).terms
    features = method.net.body(some.x)
    logs = method.net.head(features).log_softmax(1)
    pseudo = agree = 0.0
    for i, own in enumerate(some.index):
        pseudo -= (method.targets[own] * logs[i]).sum() / len(logs)
        alike = torch.cosine_similarity(features[i][None], method.features, dim=1)
        alike[own] = -2
        agree -= (method.scores[alike.topk(4).indices].mean(0) * logs[i]).sum() / len(logs)
    assert terms["pseudo"].item() == pytest.approx(0.3 * pseudo.item())
    assert terms["agree"].item() == pytest.approx(agree.item())


def test_a_row_is_known_where_its_class_beats_all_clusters_of_the_others_and_else_uniform():
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(60, 4).double())
    p = (3 * torch.randn(60, 3).double()).softmax(1)
    targets = one_vs_all(rows, p, clusters=3, floor=0.75)
    positive, beats = [], []
    for c in range(3):
        order = sorted(range(60), key=lambda i, c=c: -p[i, c])
        top, others = order[:20], order[20:]
        positive.append(F.normalize(rows[top].mean(0), dim=0))
        prior = 0.25 * p[top, c].mean() + 0.75
        fit = KMeans(3, n_init=1, random_state=0).fit(rows[others].numpy())
        negative = F.normalize(torch.from_numpy(fit.cluster_centers_))
        beats.append(prior * (rows @ positive[c]) > (rows @ negative.T).amax(1))
    nearest = (rows @ torch.stack(positive).T).argmax(1)
    for i in range(60):
        known = beats[nearest[i]][i]
        expected = F.one_hot(nearest[i], 3) if known else torch.full((3,), 1 / 3)
        assert torch.allclose(targets[i], expected.double())
    assert 0 < (targets.amax(1) == 1).sum() < 60  # some are known and some are not


def test_k_means_with_fewer_different_rows_than_centres_gives_those():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert len(kmeans(rows, 3)) == 2
    assert cluster_count(rows, [2, 3]) in (2, 3)


def test_unknown_means_an_entropy_above_the_threshold():
    torch.manual_seed(0)
    logits = 3 * torch.randn(200, 5)
    p = logits.double().softmax(1)
    unsure = -(p * p.log()).sum(1) / math.log(5) > 0.55
    said = add_unknown_column(logits, 0.55).argmax(1)
    assert torch.equal(said == 5, unsure)
    assert torch.equal(said[~unsure], logits[~unsure].argmax(1))
    assert 0 < unsure.sum() < 200


def test_what_is_trained_has_no_column_for_unknown_and_the_networks_answers_have():
    x = TwoDomains().target[:4]
    method = GLC(rejecting_net(), OPEN).eval()
    assert method(x).shape == (4, 3)
    assert torch.equal(method.net.with_unknown(method(x)), add_unknown_column(method(x), 0.55))


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_the_head_stays_and_batch_norms_follow_the_target_in_train_mode(batchnorm):
    method = GLC(trained(), TASK, batchnorm=batchnorm)
    head = [value.clone() for value in method.net.head.state_dict().values()]
    means = [norm.running_mean.clone() for _, norm in batchnorms(method)]
    for _ in fit(method, TwoDomains(cast=0.5), Plan(epochs=1)):
        pass
    assert all(map(torch.equal, head, method.net.head.state_dict().values()))
    now = [norm.running_mean for _, norm in batchnorms(method)]
    stayed = [torch.equal(*pair) for pair in zip(means, now, strict=True)]
    assert stayed == [batchnorm == "eval"] * 2


@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_read_better_than_before(seed):
    net, data = trained(seed), TwoDomains(cast=0.5)
    before = data.accuracy(net)
    for _ in fit(GLC(net, TASK), data, Plan(epochs=10, seed=seed)):
        pass
    assert data.accuracy(net) > min(before + 1, 99)


@pytest.mark.parametrize("seed", range(3))
def test_unknown_images_are_told_from_known_ones_better_than_before(seed):
    data, method = Open(), GLC(rejecting_net(seed), OPEN, lr=0.03)
    before = data.scores(method).detail["open_set"]["h"]
    for _ in fit(method, data, Plan(epochs=15, seed=seed)):
        pass
    assert data.scores(method).detail["open_set"]["h"] > before + 5
