"""A client of Flower trains rounds from the server's weights, on its own images."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from toy import CLASSES, domains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.plan import Plan
from adaptune.integrations.flower import RoundClient, flower_client
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.lp import LinearProbe
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
PLAN = Plan(epochs=2, layout="contiguous", schedule="constant")


def client(count: int = 70, **options: object) -> RoundClient:
    method = FineTune(network(), TASK, lr=0.03)
    return RoundClient(method, domains(count), PLAN, **options)


def averaged(found: list[tuple[list, int, dict]]) -> list[np.ndarray]:
    """Average as Flower's FedAvg does: by numbers of images."""
    total = sum(rows for _, rows, _ in found)
    each = zip(*(weights for weights, _, _ in found), strict=True)
    counts = [rows for _, rows, _ in found]
    return [
        np.sum([one * rows for one, rows in zip(own, counts, strict=True)], axis=0) / total
        for own in each
    ]


def test_rounds_of_two_clients_learn():
    pair = [client(70), client(40)]
    weights = pair[0].get_parameters({})
    before = pair[0].evaluate(weights, {})
    for number in range(1, 4):
        found = [one.fit(weights, {"server_round": number}) for one in pair]
        assert [rows for _, rows, _ in found] == [70, 40]
        assert all(set(terms) == {"task"} for _, _, terms in found)
        weights = averaged(found)
    loss, rows, scores = pair[0].evaluate(weights, {})
    assert rows == 30
    assert loss < before[0]
    assert scores["accuracy"] > max(70, before[2]["accuracy"])


def test_a_round_begins_at_the_servers_weights_and_follows_its_number():
    one = client()
    weights = one.get_parameters({})
    first, *_ = one.fit(weights, {"server_round": 1})
    again, *_ = one.fit(weights, {"server_round": 1})
    other, *_ = one.fit(weights, {"server_round": 2})
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_batch_norms_may_stay_at_home():
    one = client(norms="local")
    own = {name for name, _ in batchnorms(one.method.net)}
    assert own
    assert not any(name.rpartition(".")[0] in own for name in one.names)
    _, norm = next(iter(batchnorms(one.method.net)))
    before = norm.running_mean.clone()
    one.fit(one.get_parameters({}), {})
    assert not torch.equal(norm.running_mean, before)


def test_a_method_that_looks_at_the_data_first_is_refused():
    with pytest.raises(ValueError, match="LinearProbe looks at the data before its first step"):
        RoundClient(LinearProbe(network(), TASK), domains(), PLAN)
    method = FineTune(network(), TASK, batchnorm="converted")
    with pytest.raises(ValueError, match="go on from the server's weights"):
        RoundClient(method, domains(), PLAN)


def test_without_flower_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr", None)
    monkeypatch.setitem(sys.modules, "flwr.client", None)
    with pytest.raises(ValueError, match=r"adaptune\[flower\]"):
        flower_client(FineTune(network(), TASK), domains(), PLAN)


def test_it_is_a_client_of_flower(monkeypatch):
    """By a stand-in for Flower, which is too heavy for the tests."""
    stand_in = ModuleType("flwr.client")
    stand_in.NumPyClient = type("NumPyClient", (), {"to_client": lambda self: self})
    monkeypatch.setitem(sys.modules, "flwr", SimpleNamespace(client=stand_in))
    monkeypatch.setitem(sys.modules, "flwr.client", stand_in)
    made = flower_client(FineTune(network(), TASK), domains(), PLAN, norms="local")
    assert isinstance(made.to_client(), stand_in.NumPyClient)
    assert len(made.get_parameters({})) == len(made.names)
