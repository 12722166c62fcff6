"""Calibrated statistics: the ends are eval and train mode, the middle is for small batches."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from toy import CLASSES, images, tinted, trained

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods.test_time.alpha_bn import AlphaBN, class_correlation
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.types import Unlabeled

TASK = Classification(len(CLASSES))


@pytest.fixture(scope="module")
def net():
    return trained(lr=0.1, epochs=8)


def target(seed: int, count: int = 240) -> tuple[torch.Tensor, torch.Tensor]:
    """Give tinted images in random order: under a stranger's light, and noisier."""
    random = torch.Generator().manual_seed(seed)
    x, y = images(count, seed=30 + seed).tensors
    x = tinted(x, 1.0) + 0.5 * torch.randn(x.shape, generator=random)
    order = torch.randperm(count, generator=random)
    return x[order], y[order]


def rows_of(x: torch.Tensor, size: int) -> list[Unlabeled]:
    parts = torch.arange(len(x)).split(size)
    return [Unlabeled(x[part], torch.zeros_like(part), part) for part in parts]


def accuracy(method: AlphaBN, size: int, seed: int) -> float:
    x, y = target(seed)
    said = torch.cat([one.logits for one in stream(method, rows_of(x, size), Plan())])
    return 100 * float((said.argmax(1) == y).double().mean())


def test_at_1_answers_are_those_of_eval_mode_to_the_bit(net):
    x, _ = target(0)
    own = deepcopy(net).eval()
    for rows, answer in zip(
        rows_of(x, 32), stream(AlphaBN(net, TASK, alpha=1.0), rows_of(x, 32), Plan()), strict=True
    ):
        assert torch.equal(answer.logits, own(rows.x.contiguous(memory_format=torch.channels_last)))


def test_at_0_answers_are_those_of_train_mode_to_the_bit(net):
    x, _ = target(0)
    own = deepcopy(net)
    own.hold_batchnorm("train")
    own.train()
    for rows, answer in zip(
        rows_of(x, 32), stream(AlphaBN(net, TASK, alpha=0.0), rows_of(x, 32), Plan()), strict=True
    ):
        assert torch.equal(answer.logits, own(rows.x.contiguous(memory_format=torch.channels_last)))


def transcribed(net: Network, x: torch.Tensor, alpha: float) -> torch.Tensor:
    x = x.double()
    for layer in [*deepcopy(net.body).double(), deepcopy(net.head).double()]:
        if isinstance(layer, nn.BatchNorm2d):
            mean = alpha * layer.running_mean + (1 - alpha) * x.mean((0, 2, 3))
            square = (x - x.mean((0, 2, 3), keepdim=True)).square().mean((0, 2, 3))
            variance = alpha * layer.running_var + (1 - alpha) * square
            unit = (x - mean[:, None, None]) / (variance + layer.eps).sqrt()[:, None, None]
            x = unit * layer.weight[:, None, None] + layer.bias[:, None, None]
        else:
            x = layer(x)
    return x


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_answers_are_the_formula_in_float64_layer_after_layer(net, alpha):
    x, _ = target(0, count=32)
    (answer,) = stream(AlphaBN(deepcopy(net), TASK, alpha=alpha), rows_of(x, 32), Plan())
    assert torch.allclose(answer.logits.double(), transcribed(net, x, alpha), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_small_batches_favour_a_mix(net, seed):
    found = {a: accuracy(AlphaBN(net, TASK, alpha=a), 4, seed) for a in (0.0, 0.25, 1.0)}
    assert found[0.25] > found[0.0] + 3
    assert found[0.25] > found[1.0] + 20


def test_nothing_moves_by_default(net):
    method = AlphaBN(deepcopy(net), TASK)
    before = deepcopy(method.state_dict())
    accuracy(method, 16, 0)
    assert method.groups() == []
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_core_moves_weights_and_biases_of_batch_norms_alone(net):
    method = AlphaBN(deepcopy(net), TASK, alpha=0.5, core=True, lr=0.01)
    before = deepcopy(method.state_dict())
    accuracy(method, 16, 0)
    moved = {key for key, value in method.state_dict().items() if not value.equal(before[key])}
    norms = [name for name, _ in batchnorms(method)]
    assert moved == {f"{name}.{kind}" for name in norms for kind in ("weight", "bias")}


def test_core_lowers_its_own_loss(net):
    x, _ = target(0, count=64)
    method = AlphaBN(deepcopy(net), TASK, alpha=0.5, core=True, lr=0.01)
    first, *_, last = stream(method, rows_of(x, 64) * 20, Plan())
    found = [float(class_correlation(one.logits.softmax(1))) for one in (first, last)]
    assert found[1] < found[0]


def test_the_correlation_is_the_formula_in_float64():
    p = torch.randn(9, 4, dtype=torch.float64).softmax(1)
    total = 0.0
    for k in range(4):
        row = [float((p[:, k] * p[:, j]).sum()) for j in range(4)]
        total += 1 - row[k] / sum(row)
    assert float(class_correlation(p)) == pytest.approx(total / 4)


def test_the_correlation_is_least_for_certain_predictions_of_every_class():
    best = torch.eye(4).repeat(3, 1)
    assert float(class_correlation(best)) == 0
    torch.manual_seed(0)
    for worse in (torch.full((12, 4), 0.25), torch.eye(4)[:1].repeat(12, 1)):
        assert float(class_correlation(worse)) >= 0.75
    for _ in range(20):
        assert float(class_correlation(torch.randn(12, 4).softmax(1))) > 0


def test_one_image_has_no_correlation_to_lower():
    logits = torch.randn(1, 4, requires_grad=True)
    class_correlation(logits.softmax(1)).backward()
    assert float(logits.grad.abs().max()) < 1e-6


def test_a_share_outside_0_to_1_and_networks_without_batch_norm_are_refused(net):
    with pytest.raises(ValueError, match="from 0 to 1"):
        AlphaBN(net, TASK, alpha=1.5)
    plain = Network.from_module(nn.Sequential(nn.Linear(2, 2)), head="0", classes=CLASSES)
    with pytest.raises(ValueError, match="has none"):
        AlphaBN(plain, TASK)
