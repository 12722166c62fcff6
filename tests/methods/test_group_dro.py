"""Group DRO: its shares and its objective by the paper, the worst domain learnt better."""

from __future__ import annotations

import math

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, network

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.group_dro import GroupDRO
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES), domains=3)


def some(data: TwoDomains, rows: list[int]) -> Batch:
    at = torch.tensor(rows)
    return Batch(Labeled(data.x[at].double(), data.domain[at], at, y=data.y[at]))


def domain_losses(net, labeled) -> list[float]:
    """Give the mean loss of each domain's rows, 0 of none."""
    found: list[list[float]] = [[], [], []]
    for x, y, d in zip(labeled.x, labeled.y, labeled.domain, strict=True):
        z = net(x[None])[0].detach()
        found[int(d)].append(float(z.exp().sum().log() - z[y]))
    return [sum(one) / len(one) if one else 0.0 for one in found]


def test_shares_and_objective_are_the_papers_over_two_steps_in_float64():
    method, data = (
        GroupDRO(network(), TASK, eta=0.5, batchnorm="eval").double(),
        TwoDomains(sources=3),
    )
    descent = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    q = [1 / 3] * 3
    for rows in ([0, 5, 100, 101, 102, 7, 200], [1, 2, 201, 202]):
        batch = some(data, rows)
        losses = domain_losses(method.net, batch.labeled)
        raised = [one * math.exp(0.5 * loss) for one, loss in zip(q, losses, strict=True)]
        there = [loss > 0 for loss in losses]
        scale = sum(o for o, t in zip(q, there, strict=True) if t)
        scale /= sum(r for r, t in zip(raised, there, strict=True) if t)
        q = [r * scale if t else o for o, r, t in zip(q, raised, there, strict=True)]
        assert sum(q) == pytest.approx(1)
        wanted = sum(one * loss for one, loss in zip(q, losses, strict=True))
        assert method.step(batch, descent).total.item() == pytest.approx(wanted, rel=1e-6)
        assert method.shares.tolist() == pytest.approx(q, rel=1e-6)
    assert batch.labeled.domain.unique().tolist() == [0, 2]


def test_an_objective_writes_nothing_and_goes_down_by_fixed_shares():
    method, data = GroupDRO(network(), TASK, eta=2.0).double().eval(), TwoDomains(sources=3)
    batch = some(data, [0, 1, 100, 200, 201])
    found = torch.autograd.grad(method.objective(batch).total, method.net.head.bias)[0]
    assert method.shares.tolist() == pytest.approx([1 / 3] * 3)
    losses = TASK.losses(method.net(batch.labeled.x), batch.labeled.y)
    means = torch.stack([losses[batch.labeled.domain == d].mean() for d in range(3)])
    fixed = (2 * means.detach()).softmax(0)
    torch.testing.assert_close(found, torch.autograd.grad(fixed @ means, method.net.head.bias)[0])


def test_with_no_eta_all_domains_count_alike_and_what_cannot_be_is_refused():
    method, data = GroupDRO(network(), TASK, eta=0.0).double().eval(), TwoDomains(sources=3)
    batch = some(data, [0, 100, 101, 102, 200])
    losses = domain_losses(method.net, batch.labeled)
    assert method.objective(batch).total.item() == pytest.approx(sum(losses) / 3, rel=1e-6)
    for eta in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="how fast shares move"):
            GroupDRO(network(), TASK, eta=eta)


class OneIsFew(TwoDomains):
    """Three sources, of which the last has few images and another colour."""

    def __init__(self) -> None:
        super().__init__(sources=3)
        self.x[192:] += torch.tensor([1.0, 0.0, -1.0])[:, None, None]
        keep = [*range(192), *range(192, 204)]
        self.x, self.y, self.domain = (one[keep] for one in (self.x, self.y, self.domain))


def test_the_worst_domain_counts_most_and_is_learnt_better():
    worst = {}
    for eta in (0.0, 1.0):
        found, shares = [], []
        for seed in range(3):
            method, data = GroupDRO(network(seed), TASK, lr=0.01, eta=eta), OneIsFew()
            data.domain[:] = data.domain if eta else data.domain * 0  # as fine-tuning has it
            for _ in fit(method, data, Plan(epochs=4, seed=seed)):
                pass
            with torch.no_grad():
                rows = slice(192, 204)
                found.append(float(TASK.loss(method.eval()(data.x[rows]), data.y[rows])))
            shares.append(method.shares)
        worst[eta] = sum(found) / 3
    assert worst[1.0] < 0.9 * worst[0.0]
    assert (torch.stack(shares).argmax(1) == 2).sum() >= 2


def test_all_domains_pass_batch_norm_together():
    method, data = GroupDRO(network(), TASK).double().train(), TwoDomains(sources=3)
    batch, norm = some(data, [0, 100, 101, 200]), method.net.body[1]
    with torch.no_grad():
        mean = method.net.body[0](batch.labeled.x).mean((0, 2, 3))
    expected = 0.9 * norm.running_mean + 0.1 * mean
    method.objective(batch)
    torch.testing.assert_close(norm.running_mean, expected)
