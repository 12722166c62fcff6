"""What rates are by default for each optimiser, and that timm's networks learn at them."""

from __future__ import annotations

import math

import pytest
import torch
from toy import CLASSES

from adaptune.data import Loading, from_datasets
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.method import ranges, usual_rates
from adaptune.engine.plan import USUAL, Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.l2_sp import L2SP
from adaptune.methods.unsupervised.adaptsegnet import AdaptSegNet
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Between

TASK = Classification(len(CLASSES))


def bright(count: int, seed: int) -> torch.utils.data.TensorDataset:
    """Give noisy images of 32 pixels in which one channel is brighter: the class."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = 0.6 * torch.randn(count, 3, 32, 32, generator=random)
    x[torch.arange(count), y] += 0.5
    return torch.utils.data.TensorDataset(x, y)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_vit_and_convnext_learn_at_the_rates_that_are_usual(name, optimizer):
    torch.manual_seed(0)
    net = Network.from_timm(name, list(CLASSES), **({"size": 32} if "vit" in name else {}))
    method = FineTune(net, TASK, **usual_rates(FineTune, USUAL[optimizer]))
    sets = (bright(64, 0), bright(3, 1), bright(30, 2))
    data = from_datasets(*sets, classes=CLASSES, loading=Loading(batch_size=16))
    plan = Plan(epochs=3, optimizer=optimizer, layout="contiguous")
    terms = [epoch.terms["task"] for epoch in fit(method, data, plan) if epoch.number]
    assert all(map(math.isfinite, terms))
    assert terms[-1] < 0.5 * math.log(3)
    assert evaluate(method, data.scan("test"), TASK).scores.main.value > 80


def test_rates_of_any_name_are_a_hundredth_for_adamw_and_weights_of_terms_stay():
    assert usual_rates(AdaptSegNet, 0.01) == {"lr": 0.0003, "judge": 0.001}
    assert ranges(AdaptSegNet, 0.01)["judge"] == Between(1e-5, 0.01)
    assert usual_rates(L2SP, 0.01) == {"lr": 0.0003}
    assert ranges(L2SP, 0.01)["alpha"] == ranges(L2SP)["alpha"]
