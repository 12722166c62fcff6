"""L2-SP: which weights are penalised, by the formula, and what that does to them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy import CLASSES, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.l2_sp import L2SP, penalised
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def trained(method, epochs: int = 6):
    for _ in fit(method, domains(), Plan(epochs=epochs)):
        pass
    return method


def test_the_penalties_are_those_of_the_formula_in_float64():
    method = L2SP(network().double(), TASK, alpha=0.3, beta=0.7).double().eval()
    kept = {"0.weight", "3.weight"}
    start = {key: one.detach().clone() for key, one in method.net.body.named_parameters()}
    with torch.no_grad():
        for one in method.net.parameters():
            one += torch.randn_like(one)
    batch = next(iter(domains().batches(method.needs, 0)))
    x, y = batch.labeled.x.double(), batch.labeled.y
    object.__setattr__(batch.labeled, "x", x)
    rows = method.net(x).exp()
    moved = {key: one - start[key] for key, one in method.net.body.named_parameters()}
    wanted = {
        "task": -(rows[torch.arange(len(y)), y] / rows.sum(1)).log().mean(),
        "start": 0.15 * sum((moved[key] ** 2).sum() for key in kept),
        "head": 0.35 * (method.net.head.weight**2).sum(),
    }
    torch.testing.assert_close(method.objective(batch).terms, wanted, rtol=1e-12, atol=0)


def test_without_penalties_it_is_fine_tuning_to_the_bit():
    ours = trained(L2SP(network(), TASK, alpha=0.0, beta=0.0), 2).net.state_dict()
    theirs = trained(FineTune(network(), TASK), 2).net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_the_more_it_is_pulled_the_nearer_it_stays_and_it_learns_all_the_same():
    def distance(alpha: float) -> float:
        method = trained(L2SP(network(), TASK, alpha=alpha))
        assert evaluate(method, domains().scan("test"), TASK).scores.main.value > 80
        with torch.no_grad():
            pairs = zip(penalised(method.net.body), penalised(network().body), strict=True)
            return sum(float((one - was).norm()) for one, was in pairs)

    far, near, nearer = (distance(alpha) for alpha in (0.0, 1.0, 4.0))
    assert nearer < near < 0.8 * far


def test_the_start_is_the_pretrained_network_after_a_resume_too():
    states = [epoch.state for epoch in fit(L2SP(network(), TASK), domains(), Plan(epochs=2))]
    method = L2SP(network(seed=3), TASK)
    for _ in fit(method, domains(), Plan(epochs=2), state=states[1]):
        pass
    assert torch.equal(method.start, L2SP(network(), TASK).start)


@pytest.mark.parametrize("policy", ["train", "eval"])
def test_batch_norms_do_as_in_fine_tuning(policy):
    before = [norm.running_mean.clone() for _, norm in batchnorms(network().body)]
    method = trained(L2SP(network(), TASK, batchnorm=policy), 1)
    for (_, norm), was in zip(batchnorms(method.net.body), before, strict=True):
        assert torch.equal(norm.running_mean, was) == (policy == "eval")


def test_a_body_without_weights_is_not_pulled():
    net = Network.from_module(nn.Sequential(nn.Linear(4, 3)), head="0", classes=CLASSES)
    method = L2SP(Network(nn.Identity(), net.head, 4, classes=CLASSES, origin=net.origin), TASK)
    assert method.start.numel() == 0


@pytest.mark.parametrize("weight", ["alpha", "beta"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_penalty_that_is_none_is_refused(weight, value):
    with pytest.raises(ValueError, match=f"{weight} is the weight of a penalty"):
        L2SP(network(), TASK, **{weight: value})
