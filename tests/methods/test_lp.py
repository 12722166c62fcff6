"""Linear probing and what starts from it."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from toy import CLASSES, domains, network

from adaptune.data import from_datasets
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised import lp
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.methods.supervised.lp_ft import LinearProbeFineTune
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def test_the_probe_is_logistic_regression_at_the_best_c_on_validation():
    method, data = LinearProbe(network(), TASK, cs=10), domains()
    notes = method.prepare(data)
    tried = dict(notes["probe"]["path"])
    best = notes["probe"]["c"]
    assert tried[best] == max(tried.values())
    assert best == min(c for c, accuracy in tried.items() if accuracy == tried[best])
    method.eval()
    rows = list(data.scan("train"))
    features = method.net.body(torch.cat([r.x for r in rows])).detach().double()
    y = torch.cat([r.y for r in rows])
    x = (features - features.mean()) / features.std()
    reference = LogisticRegression(C=best, max_iter=5000, tol=1e-8).fit(x.numpy(), y.numpy())
    ours = method.net.head(features.float()).softmax(1).double().detach()
    assert torch.allclose(ours, torch.from_numpy(reference.predict_proba(x.numpy())), atol=2e-3)


def test_features_are_computed_once_and_nothing_moves_afterwards():
    method, data = LinearProbe(network(), TASK, cs=3), domains()
    before = {key: value.clone() for key, value in method.net.body.state_dict().items()}
    epochs = list(fit(method, data, Plan(epochs=5)))
    assert [epoch.number for epoch in epochs] == [0]
    after = method.net.body.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


@pytest.fixture
def solved(monkeypatch):
    """The sizes of problems that were solved, from an empty memory on."""
    sizes, solve = [], lp.linear_probe

    def count(x, *rest, **more):
        sizes.append(len(x))
        return solve(x, *rest, **more)

    monkeypatch.setattr(lp, "_PROBES", {})
    monkeypatch.setattr(lp, "linear_probe", count)
    return sizes


def prepared(method=LinearProbe, *, count=70, seed=0, cs=3, **options):
    one = method(network(seed), TASK, cs=cs, **options)
    notes = one.prepare(domains(count))["probe"]
    return one.net.head, notes


def test_the_same_features_are_solved_once_whichever_method_asks(solved):
    first, notes = prepared()
    for again in (prepared(), prepared(LinearProbeFineTune, lr=0.1)):
        assert torch.equal(again[0].weight, first.weight)
        assert torch.equal(again[0].bias, first.bias)
        assert again[1] == notes
    assert solved == [70]


def test_what_is_kept_is_not_moved_by_the_training_that_follows(solved):
    def epochs():
        method = LinearProbeFineTune(network(), TASK, cs=3, lr=0.5)
        for _ in fit(method, domains(), Plan(epochs=1)):
            yield method.net.head.weight.detach().clone()

    probe, tuned = epochs()
    assert not torch.equal(tuned, probe)
    assert torch.equal(next(epochs()), probe)
    assert solved == [70]


@pytest.mark.parametrize("other", [{"count": 69}, {"seed": 1}, {"cs": 4}])
def test_other_features_or_penalties_are_solved_anew(solved, other):
    first, _ = prepared()
    second, notes = prepared(**other)
    assert len(solved) == 2
    assert not torch.equal(first.weight, second.weight) or other == {"cs": 4}
    assert len(notes["path"]) == other.get("cs", 3)


def test_few_probes_are_kept(solved):
    for count in range(60, 66):
        prepared(count=count)
    assert len(lp._PROBES) == lp.KEPT
    prepared(count=65)
    assert len(solved) == 6
    prepared(count=60)
    assert len(solved) == 7


def test_lp_ft_starts_at_the_probe():
    probe, tuned = LinearProbe(network(), TASK, cs=5), LinearProbeFineTune(network(), TASK, cs=5)
    for method in (probe, tuned):
        next(iter(fit(method, domains(), Plan(epochs=1))))
    one, other = (
        sample_outputs(method, domains().scan("test")).logits for method in (probe, tuned)
    )
    assert torch.equal(one, other)


def test_probing_without_validation_images_says_what_to_do():
    data = domains()
    empty = torch.utils.data.TensorDataset(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=int))
    data = from_datasets(data.sets["train"].data, empty, empty, classes=CLASSES)
    with pytest.raises(ValueError, match="give the data a val folder"):
        LinearProbe(network(), TASK).prepare(data)
