"""SAM and ASAM on the toy; the rule itself is tested with the rules."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.data import TensorDataset
from toy import CLASSES, domains, images, network, tinted
from toy import trained as source

from adaptune.data import Loading, from_datasets
from adaptune.engine.descent import Descent
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.sam import SAM
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

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


def few(shots: int):
    """Give a target's domain with so many images a class to train on."""
    sets = []
    for count, seed in ((3 * shots, 30), (3, 31), (90, 32)):
        x, y = images(count, seed=seed).tensors
        sets.append(TensorDataset(tinted(x, 1.0), y))
    return from_datasets(*sets, classes=CLASSES, loading=Loading(batch_size=32))


def test_of_the_head_alone_two_steps_are_adams_after_the_climb_in_float64():
    net = source().double()
    body = {key: value.clone() for key, value in net.body.state_dict().items()}
    method = SAM(net, TASK, lr=0.01, rho=0.05, part="head").double().train()
    x, y = images(6, seed=30).tensors
    x = x.double()
    features = net.body.eval()(x).detach()
    own = [one.detach().clone() for one in (net.head.weight, net.head.bias)]
    first, second = ([torch.zeros_like(one) for one in own] for _ in range(2))
    index = torch.arange(6)
    batch = Batch(Labeled(x, 0 * index, index, y=y))
    plan = Plan(optimizer="adamw")
    descend = Descent(method.train(), plan, Fabric(accelerator="cpu", devices=1))

    def slope(w, b):
        w, b = (one.detach().requires_grad_() for one in (w, b))
        rows = features @ w.T + b
        loss = (rows.exp().sum(1).log() - rows[index, y]).mean()
        return torch.autograd.grad(loss, [w, b])

    for step in (1, 2):
        here = slope(*own)
        norm = sum(one.square().sum() for one in here).sqrt()
        there = slope(*(w + 0.05 * g / norm for w, g in zip(own, here, strict=True)))
        for at, g in enumerate(there):
            first[at] = 0.9 * first[at] + 0.1 * g
            second[at] = 0.999 * second[at] + 0.001 * g * g
            size = (second[at] / (1 - 0.999**step)).sqrt() + 1e-8
            own[at] = own[at] - 0.01 * first[at] / (1 - 0.9**step) / size
        descend.at(0.0, 6)
        method.step(batch, descend)
    torch.testing.assert_close(net.head.weight.detach(), own[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(net.head.bias.detach(), own[1], rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, body[key]) for key, value in net.body.state_dict().items())
    assert not any(one.training for one in net.body.modules())


@pytest.mark.parametrize("shots", [1, 5])
def test_a_source_network_learns_from_few_images_head_first_then_all(shots):
    data, net = few(shots), source(lr=0.1, epochs=8)
    plan = Plan(epochs=12, optimizer="adamw", schedule="constant", layout="contiguous")

    def accuracy(method) -> float:
        for _ in fit(method, data, plan):
            pass
        return evaluate(method, data.scan("test"), TASK).scores.main.value

    before = evaluate(SAM(net, TASK), data.scan("test"), TASK).scores.main.value
    body = {key: value.clone() for key, value in net.body.state_dict().items()}
    probed = accuracy(SAM(net, TASK, lr=0.1, part="head"))
    assert all(torch.equal(value, body[key]) for key, value in net.body.state_dict().items())
    tuned = accuracy(SAM(net, TASK, lr=0.003))
    assert not torch.equal(net.body[0].weight, body["0.weight"])
    assert before + 10 < probed <= tuned
