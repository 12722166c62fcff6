"""Linear probing and what starts from it."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from toy import CLASSES, domains, network

from adaptune.data import from_datasets
from adaptune.descent import Plan
from adaptune.loop import evaluate, fit
from adaptune.methods.lp import LinearProbe
from adaptune.methods.lp_ft import LinearProbeFineTune
from adaptune.task import Task

TASK = Task(len(CLASSES))


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


def test_lp_ft_starts_at_the_probe():
    probe, tuned = LinearProbe(network(), TASK, cs=5), LinearProbeFineTune(network(), TASK, cs=5)
    for method in (probe, tuned):
        next(iter(fit(method, domains(), Plan(epochs=1))))
    one, other = (evaluate(method, domains().scan("test")).logits for method in (probe, tuned))
    assert torch.equal(one, other)


def test_probing_without_validation_images_says_what_to_do():
    data = domains()
    empty = torch.utils.data.TensorDataset(torch.empty(0, 3, 8, 8), torch.empty(0, dtype=int))
    data = from_datasets(data.sets["train"].data, empty, empty, classes=CLASSES)
    with pytest.raises(ValueError, match="give the data a val folder"):
        LinearProbe(network(), TASK).prepare(data)
