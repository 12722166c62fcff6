"""Mixup: its loss by the paper, what batch norms see, what it learns."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from toy import CLASSES, domains, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.mixup import Mixup
from adaptune.ops.mixing import partners
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def batch():
    found = next(iter(domains().batches(Mixup.needs, 0)))
    object.__setattr__(found.labeled, "x", found.labeled.x.double())
    return found


def test_the_loss_is_that_of_mixed_images_and_mixed_labels_in_float64():
    method, rows = Mixup(network(), TASK, alpha=0.4).double().eval(), batch()
    torch.manual_seed(3)
    found = method.objective(rows)
    torch.manual_seed(3)
    share, partner = partners(len(rows.labeled), alpha=0.4)
    x, y = rows.labeled.x, F.one_hot(rows.labeled.y, 3).double()
    total = 0.0
    for i, (lam, j) in enumerate(zip(share.tolist(), partner.tolist(), strict=True)):
        z = method.net((lam * x[i] + (1 - lam) * x[j])[None])[0].detach()
        total -= float(((lam * y[i] + (1 - lam) * y[j]) * z.log_softmax(0)).sum())
    assert found.total.item() == pytest.approx(total / len(x), rel=1e-6)


def test_unmixed_it_is_the_plain_loss_and_what_cannot_be_is_refused(monkeypatch):
    method, rows = Mixup(network(), TASK).double().eval(), batch()
    unmixed = torch.ones(len(rows.labeled)), torch.randperm(len(rows.labeled))
    monkeypatch.setattr("adaptune.methods.supervised.mixup.partners", lambda *_, alpha: unmixed)
    plain = TASK.loss(method.net(rows.labeled.x), rows.labeled.y)
    torch.testing.assert_close(method.objective(rows).total, plain)
    for alpha in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="alpha is a number from 0.05 up"):
            Mixup(network(), TASK, alpha=alpha)


def test_batch_norms_see_mixtures_whose_means_are_those_of_images_and_whose_variance_is_less():
    method, rows = Mixup(network(), TASK, alpha=10.0).double().train(), batch()
    norm = method.net.body[1]
    with torch.no_grad():
        plain = method.net.body[0](rows.labeled.x)
    norm.momentum = 1.0
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    method.objective(rows)
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)))
    assert (seen[0].var((0, 2, 3)) < plain.var((0, 2, 3))).all()


def test_it_learns_and_says_of_mixtures_what_they_are_better_than_fine_tuning_does():
    losses, scores = [], []
    for method in (Mixup(network(), TASK, lr=0.1, alpha=1.0), FineTune(network(), TASK, lr=0.1)):
        data = domains()
        for _ in fit(method, data, Plan(epochs=12)):
            pass
        scores.append(evaluate(method, data.scan("test"), TASK).scores.main.value)
        rows = torch.cat([one.x for one in data.scan("test")])
        y = F.one_hot(torch.cat([one.y for one in data.scan("test")]), 3)
        torch.manual_seed(0)
        order = torch.randperm(len(rows))
        with torch.no_grad():
            logs = method.eval()((rows + rows[order]) / 2).log_softmax(1)
        losses.append(float(-((y + y[order]) / 2 * logs).sum(1).mean()))
    assert scores[0] > 80
    assert losses[0] < 0.9 * losses[1]
