"""SAM and ASAM on the toy; the rule itself is tested with the rules."""

from __future__ import annotations

import pytest
import torch
from toy import CLASSES, domains, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.ft import FineTune
from adaptune.methods.sam import SAM
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


def trained(method, epochs: int = 12):
    for _ in fit(method, domains(), Plan(epochs=epochs)):
        pass
    return method


def test_the_objective_is_cross_entropy_in_float64():
    method = SAM(network().double(), TASK).double().eval()
    batch = next(iter(domains().batches(method.needs, 0)))
    x, y = batch.labeled.x.double(), batch.labeled.y
    object.__setattr__(batch.labeled, "x", x)
    rows = method.net(x).exp()
    wanted = -(rows[torch.arange(len(y)), y] / rows.sum(1)).log().mean()
    torch.testing.assert_close(method.objective(batch).total, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("policy", ["train", "eval", "converted"])
def test_without_a_climb_it_is_fine_tuning_to_the_bit(policy):
    sharp = trained(SAM(network(), TASK, rho=0.0, batchnorm=policy), 2)
    plain = trained(FineTune(network(), TASK, batchnorm=policy), 2)
    for one, other in zip(sharp.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_adaptive_it_learns_too_and_to_other_weights():
    method = trained(SAM(network(), TASK, rho=0.5, adaptive=True))
    assert evaluate(method, domains().scan("test"), TASK).scores.main.value > 90
    assert not torch.equal(method.net.head.weight, trained(SAM(network(), TASK)).net.head.weight)


@pytest.mark.parametrize("rho", [-0.1, float("inf"), float("nan")])
def test_a_radius_that_is_none_is_refused(rho):
    with pytest.raises(ValueError, match="rho is how far to climb"):
        SAM(network(), TASK, rho=rho)
