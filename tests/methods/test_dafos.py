"""DAFOS-Net: episodes within a batch, features made of noise, answers by prototypes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_methods_on_digits import SOURCE, Digits, digits, lit, of_the_source
from test_methods_on_digits import network as digits_network
from toy import CLASSES, TwoDomains, network

from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.few_shot.dafos import DAFOS
from adaptune.ops.episodes import ask, asked_terms, collapse, draw_episode
from adaptune.ops.made_features import MadeFeatures
from adaptune.tasks.classification import Classification
from adaptune.types import Batch

TASK = Classification(len(CLASSES), domains=2)


def made(**options: object) -> DAFOS:
    return DAFOS(network(), TASK, **({"hidden": 8, "ways": 2} | options))


def batch() -> Batch:
    method = made()
    return next(iter(TwoDomains(sources=2, batch_size=40).batches(method.needs, 0)))


@pytest.mark.parametrize("seed", range(5))
def test_every_row_of_an_episode_is_one_thing_and_support_is_as_asked(seed):
    torch.manual_seed(seed)
    y, target = torch.randint(5, (60,)), torch.rand(60) < 0.4
    found = draw_episode(y, target, classes=6, ways=3, shots=(4, 1))
    kinds = torch.stack([found.support, found.known, found.unknown]).long()
    assert (kinds.sum(0) == 1).all()
    assert len(found.classes.unique()) == 3
    for k in range(5):
        for side, most in ((target, 1), (~target, 4)):
            rows = side & (y == k)
            wanted = min(most, (int(rows.sum()) + 1) // 2) if k in found.classes else 0
            assert int((found.support & rows).sum()) == wanted
            assert found.unknown[rows].all() == (k not in found.classes)


def test_a_class_that_a_domain_lacks_is_never_known():
    y, target = torch.tensor([0, 1, 1, 0, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 1]).bool()
    for seed in range(5):
        torch.manual_seed(seed)
        found = draw_episode(y, target, classes=3, ways=3, shots=(4, 1))
        assert found.classes.tolist() == [0]


def test_the_terms_are_the_formulas_in_float64():
    torch.manual_seed(0)
    rows, y = torch.randn(30, 4).double(), torch.arange(30) % 3
    target = torch.arange(30) >= 18
    low, high = torch.randn(30, 4).double(), torch.randn(30, 4).double()
    found = draw_episode(y, target, classes=3, ways=2, shots=(4, 1))
    two = [torch.nn.Linear(2, 1).double() for _ in range(2)]
    asked, task, outlier, domain, triplet, middles = [], [], [], [], 0.0, []
    for side, weight in ((~target, 0.075), (target, 0.125)):
        asked.append(ask(rows, y, (low, high), found, side))
        held = [i for i in range(30) if side[i] and found.support[i]]
        means = []
        for k in found.classes:
            own = [i for i in held if y[i] == k]
            means.append(torch.stack([rows[i] for i in own] + [low[i] for i in own]).mean(0))
        queries = [(rows[i], int(y[i])) for i in range(30) if side[i] and found.known[i]]
        queries += [(rows[i], -1) for i in range(30) if side[i] and found.unknown[i]]
        queries += [(high[i], -1) for i in held]
        near, far = [[], []], [[], []]
        for row, label in queries:
            squares = torch.stack([(row - mean).square().mean() for mean in means])
            order = 5.0 * squares.sort().values
            out, there = torch.tensor(label < 0), torch.tensor(side is target)
            outlier.append(F.binary_cross_entropy_with_logits(two[0](order)[0], out.double()))
            domain.append(F.binary_cross_entropy_with_logits(two[1](order)[0], there.double()))
            for at, k in enumerate(found.classes):
                (near if k == label else far)[at].append(squares[at])
                if k == label:
                    task.append(-(-5.0 * squares).log_softmax(0)[at])
        gaps = [
            torch.stack(n).mean() - torch.stack(f).mean() for n, f in zip(near, far, strict=True)
        ]
        triplet += weight * (torch.stack(gaps).mean() + 0.5).clamp_min(0)
        middles.append(torch.stack([mean.mean() for mean in means]))
    terms = asked_terms(*asked, *two, ways=2, scale=5.0)
    wanted = {
        "task": torch.stack(task).mean(),
        "outlier": torch.stack(outlier).mean(),
        "domain": torch.stack(domain).mean(),
        "triplet": triplet,
        "align": (middles[0] - middles[1]).square().mean(),
    }
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value)


def test_what_holds_noises_apart_is_the_formula():
    torch.manual_seed(0)
    s, t, z, w = (torch.randn(6, 5).double() for _ in range(4))
    total = 0.0
    for i in range(6):
        made_, given = (F.cosine_similarity(*two, dim=0) for two in ((s[i], t[i]), (z[i], w[i])))
        total += 1 + torch.log((1 - given) / (1 - made_))
    torch.testing.assert_close(collapse(s, t, z, w), total / 6, atol=1e-6, rtol=1e-6)


def test_the_head_is_the_distance_to_the_targets_prototypes():
    method, data = made(scale=7.0), TwoDomains(sources=2)
    method.prepare(data)
    method.refresh(data)
    method.eval()
    features = method.net.body(data.x)
    logits = method.net.head(features)
    squares = (features.unsqueeze(1) - method.prototypes).square().mean(2)
    torch.testing.assert_close(logits.log_softmax(1), (-7.0 * squares).log_softmax(1))
    theirs = data.domain == 1
    for k in range(3):
        mean = features[theirs & (data.y == k)].mean(0)
        torch.testing.assert_close(method.prototypes[k], mean)


def test_judges_learn_what_is_made_and_generators_to_hide_it_and_neither_moves_the_body():
    made_, y = MadeFeatures(width=4, classes=3, hidden=8), torch.arange(12) % 3
    features = torch.randn(12, 4, requires_grad=True)
    made_.judged(features.detach(), y).backward()
    assert all(one.grad is None for one in made_.makers.parameters())
    assert all(one.grad.any() for one in made_.judges[0][2].parameters())
    made_.zero_grad()
    made_.fooled(y).backward()
    assert all(one.grad is None for one in made_.judges.parameters())
    assert all(one.grad.any() for one in made_.makers[1][2].parameters())
    assert not any(one.requires_grad for one in made_(y))


def test_batch_norms_see_both_domains_in_one_pass():
    method, rows = made().train(), batch()
    norm = method.net.body[1]
    expected = norm.running_mean.clone()
    with torch.no_grad():
        mean = method.net.body[0](rows.labeled.x).mean((0, 2, 3))
    method.objective(rows)
    torch.testing.assert_close(norm.running_mean, 0.9 * expected + 0.1 * mean)


def test_a_batch_without_a_shared_class_asks_nothing_of_the_body():
    method, rows = made(), batch()
    alone = replace(rows, labeled=replace(rows.labeled, domain=torch.zeros_like(rows.labeled.y)))
    terms = method.objective(alone).terms
    assert terms.keys() == {"task", "judged", "made"}
    assert float(terms["task"].detach()) == 0.0
    with pytest.raises(ValueError, match="an episode has classes"):
        made(ways=0)


class FewDigits(Digits):
    """Digits as the scanner saw them, and three of each in another light, in every batch."""

    def __init__(self) -> None:
        super().__init__()
        x, y = digits()
        some = torch.cat(
            [(y[SOURCE : 2 * SOURCE] == k).nonzero()[:3, 0] + SOURCE for k in range(10)]
        )
        self.x, self.y = torch.cat([self.x, lit(x[some])]), torch.cat([self.y, y[some]])
        self.domain = torch.cat([self.domain, torch.ones(30, dtype=torch.int64)])

    def batches(self, needs, epoch, start=0):
        random = torch.Generator().manual_seed(epoch)
        mine = torch.randperm(SOURCE, generator=random).split(30)[start:]
        for rows in mine:
            theirs = SOURCE + torch.randperm(30, generator=random)
            yield Batch(self._labeled(torch.cat([rows, theirs])))

    def steps(self, needs):
        return SOURCE // 30


def test_a_few_digits_in_another_light_are_enough_to_read_the_others():
    data = FewDigits()
    method = DAFOS(digits_network(), Classification(10, domains=2))
    for _ in fit(method, data, Plan(epochs=8)):
        pass
    assert data.accuracy(method.net) > data.accuracy(of_the_source()) + 25
