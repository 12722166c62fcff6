"""MCD: two heads pushed apart on the target, the body that follows, the passes batch norms see."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from toy import CLASSES, TwoDomains, network, source_alone, target_mean

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.methods.unsupervised.mcd import MCD, classifier_discrepancy
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Needs, Objective, Unlabeled

TASK = Classification(len(CLASSES))
BOTH = Needs(unlabeled=True)


def batch(dtype: torch.dtype = torch.float32) -> Batch:
    found = next(TwoDomains().batches(BOTH, 0))
    ours, theirs = found.labeled, found.unlabeled
    return Batch(
        Labeled(ours.x.to(dtype), ours.domain, ours.index, y=ours.y),
        Unlabeled(theirs.x[:17].to(dtype), theirs.domain[:17], theirs.index[:17]),
    )


class Recorded:
    """A descent that notes after each move which parameters of a method moved."""

    def __init__(self, method: Method) -> None:
        fabric = Fabric(accelerator="cpu", devices=1)
        self.method, self.descend = method, Descent(method, Plan(), fabric)
        self.moved: list[set[str]] = []
        self.terms: list[dict[str, Tensor]] = []

    def __call__(self, evaluate, *modules: nn.Module) -> Objective:
        before = {key: value.detach().clone() for key, value in self.method.named_parameters()}
        done = self.descend(evaluate, *modules)
        now = self.method.named_parameters()
        self.moved.append({key for key, value in now if not torch.equal(value, before[key])})
        self.terms.append(done.terms)
        return done


def test_the_discrepancy_is_the_mean_distance_of_probabilities_over_rows_and_classes():
    one, other = torch.randn(5, 4).double(), torch.randn(5, 4).double()
    p, q = (logits.exp() / logits.exp().sum(1, keepdim=True) for logits in (one, other))
    each = [abs(p[row, k] - q[row, k]) for row in range(5) for k in range(4)]
    found = classifier_discrepancy(one, other)
    assert found.item() == pytest.approx(sum(each).item() / 20)
    assert classifier_discrepancy(other, one) == found
    assert classifier_discrepancy(one, one + 3).item() == pytest.approx(0)


def test_the_terms_of_all_steps_are_the_papers_in_float64():
    method, rows = MCD(network(), TASK).double().eval(), batch(torch.float64)
    ours, theirs = method.net.body(rows.labeled.x), method.net.body(rows.unlabeled.x)
    labels = {}
    for name, head in (("task", method.net.head), ("second", method.second)):
        p = head(ours).exp() / head(ours).exp().sum(1, keepdim=True)
        labels[name] = -p[torch.arange(24), rows.labeled.y].log().sum().item() / 24
    p, q = method.net.head(theirs).softmax(1), method.second(theirs).softmax(1)
    discrepancy = (p - q).abs().sum().item() / (17 * 3)
    for objective, expected in (
        (method.labels, labels),
        (method.apart, labels | {"apart": -discrepancy}),
        (method.agreement, {"agreement": discrepancy}),
        (method.objective, labels | {"agreement": discrepancy}),
    ):
        terms = objective(rows).terms
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_step_moves_all_then_the_heads_alone_then_the_body_alone(repeats):
    method = MCD(network(), TASK, repeats=repeats).train()
    descend = Recorded(method)
    done = method.step(batch(), descend)
    heads = {"net.head.weight", "net.head.bias", "second.weight", "second.bias"}
    body = {f"net.body.{name}" for name, _ in method.net.body.named_parameters()}
    assert [bool(moved & heads) for moved in descend.moved] == [True, True] + [False] * repeats
    assert [bool(moved & body) for moved in descend.moved] == [True, False] + [True] * repeats
    assert heads <= descend.moved[0]
    assert heads == descend.moved[1]
    asked = [{"task", "second"}, {"task", "second", "apart"}] + [{"agreement"}] * repeats
    assert [set(terms) for terms in descend.terms] == asked
    assert done.terms == descend.terms[1] | descend.terms[-1]


def test_the_heads_widen_the_discrepancy_and_the_body_closes_it():
    method, rows = MCD(network(), TASK, batchnorm="eval", lr=1e-3, new=1.0).train(), batch()
    descend, start = Recorded(method), method.state_dict()
    start = {key: value.clone() for key, value in start.items()}

    def alone(objective, name: str) -> Objective:
        done = objective(rows)
        return Objective({name: done.terms[name]}, done.logits)

    def gap() -> float:
        return method.agreement(rows).total.item()

    before = gap()
    descend(partial(alone, method.apart, "apart"), method.net.head, method.second)
    assert gap() > before
    method.load_state_dict(start)
    descend(partial(alone, method.agreement, "agreement"), method.net.body)
    assert gap() < before


def test_heads_start_apart_and_random_whatever_the_networks_head_is():
    method = MCD(network(), TASK)
    assert method.second.weight.shape == method.net.head.weight.shape
    assert not torch.equal(method.second.weight, method.net.head.weight)
    net = network()
    nn.init.zeros_(net.head.weight)
    for one in (method, MCD(net, TASK)):
        [slope] = torch.autograd.grad(
            one.agreement(batch()).total, [next(one.net.body.parameters())]
        )
        assert slope.any()


def test_each_domain_is_normalised_by_its_own_batch_and_statistics_follow_every_pass():
    method, rows = MCD(network(), TASK, lr=0.0, repeats=2).train(), batch()
    norm = method.net.body[1]
    expected, count = norm.running_mean.clone(), int(norm.num_batches_tracked)
    with torch.no_grad():
        source, target = (
            method.net.body[0](side.x).mean((0, 2, 3)) for side in (rows.labeled, rows.unlabeled)
        )
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    method.step(rows, Recorded(method))
    passes = [source, source, target, target, target]
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(seen, passes, strict=True))
    for mean in passes:
        expected = 0.9 * expected + 0.1 * mean
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)
    assert int(norm.num_batches_tracked) == count + 5


def test_held_batch_norms_see_all_passes_and_stay():
    method = MCD(network(), TASK, batchnorm="eval").train()
    means = [norm.running_mean.clone() for _, norm in batchnorms(method)]
    method.step(batch(), Recorded(method))
    now = [norm.running_mean for _, norm in batchnorms(method)]
    assert all(map(torch.equal, means, now))


def test_conversion_gives_batch_norms_the_sources_statistics_and_leaves_the_function_alone():
    method, data = MCD(network(), TASK, batchnorm="converted").eval(), TwoDomains()
    before = method(data.target)
    method.prepare(data)
    norm = method.net.body[1]
    seen = method.net.body[0](data.x).mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, seen, atol=1e-5)
    assert torch.allclose(method.eval()(data.target), before, atol=1e-4)


def test_heads_learn_new_times_as_fast_as_the_body():
    method = MCD(network(), TASK, lr=0.02, new=5.0)
    assert [group.rate for group in method.groups()] == pytest.approx([0.02, 0.1, 0.1])


@pytest.mark.parametrize("repeats", [0, -1])
def test_a_body_that_never_moves_towards_agreement_is_refused(repeats):
    with pytest.raises(ValueError, match="at least one step towards agreement"):
        MCD(network(), TASK, repeats=repeats)


def test_the_network_alone_predicts_by_its_own_head():
    method, data = MCD(network(), TASK).eval(), TwoDomains()
    assert torch.equal(method(data.target), method.net.head(method.net.body(data.target)))


def test_the_target_is_learnt_better_than_from_the_source_alone():
    # The toy's domains differ by a constant, which statistics of passes of their own take away.
    assert target_mean(lambda net: MCD(net, TASK)) > source_alone() + 10
