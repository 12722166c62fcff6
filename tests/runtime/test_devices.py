"""What is done where there is no float64, on a pretended device that refuses it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from lightning_fabric import Fabric
from pretended import MPS, pretended_mps
from toy import CLASSES, TwoDomains, domains, network

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.runtime.devices import exact_device, to_float64
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))


@pytest.fixture
def mps(monkeypatch):
    """Give a fabric of the pretended device."""
    fabric = Fabric(accelerator="cpu", devices=1)

    def place(strategy):
        return MPS if strategy is fabric.strategy else torch.device("cpu")

    monkeypatch.setattr(type(fabric.strategy), "root_device", property(place))
    state = torch.zeros(1)
    monkeypatch.setattr(torch.mps, "get_rng_state", state.clone)
    monkeypatch.setattr(torch.mps, "set_rng_state", state.copy_)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: None)
    with pretended_mps():
        yield fabric


def test_the_pretended_device_refuses_float64_and_what_lies_elsewhere(mps):
    x = torch.ones(2, 2).to(MPS)
    for wrong in (x.double, lambda: x.sum(dtype=torch.float64), lambda: x + torch.ones(2, 2)):
        with pytest.raises((TypeError, RuntimeError), match="float64|same device"):
            wrong()
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device=x.device)
    assert to_float64(x).dtype == torch.float64
    assert exact_device(x.device) == torch.device("cpu")


@pytest.mark.parametrize("name", ["ft", "daft", "lp"])
def test_a_network_there_learns_as_on_the_cpu(mps, name):
    def trained(fabric):
        method = METHODS[name](deepcopy(begun), TASK)
        data = TwoDomains() if method.needs.unlabeled else domains(64)
        plan = Plan(epochs=2, layout="channels_last")
        last = [epoch.terms for epoch in fit(method, data, plan, fabric=fabric)][-1]
        return method, last, evaluate(method, domains(64).scan("val"), TASK, fabric=fabric)

    begun = network()
    here, terms, known = trained(Fabric(accelerator="cpu", devices=1))
    there, said, found = trained(mps)
    assert {one.device.type for one in there.parameters()} == {"mps"}
    assert said == pytest.approx(terms, rel=1e-4, abs=1e-6)
    assert found.scores.score.value == known.scores.score.value
    for key, value in here.state_dict().items():
        torch.testing.assert_close(there.state_dict()[key].cpu(), value, rtol=1e-4, atol=1e-5)
