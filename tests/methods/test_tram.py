"""TRAM: how far it climbs, against what, and what that does to the function."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from toy import CLASSES, domains, images, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.data import Loading, from_datasets
from adaptune.engine.descent import Descent, trainable
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.methods.supervised.sam import SAM
from adaptune.methods.supervised.tram import TRAM, divergence
from adaptune.tasks.classification import Classification

TASK = Classification(len(CLASSES))
PLAN = Plan(momentum=0.0)


def made(policy: str = "eval", dropout: bool = False, **options) -> TRAM:
    net = network().double()
    if dropout:
        net.body.append(nn.Dropout(0.5))
    return TRAM(net, TASK, batchnorm=policy, **options).double().train()


def batches():
    for batch in domains().batches(TRAM.needs, 0):
        object.__setattr__(batch.labeled, "x", batch.labeled.x.double())
        yield batch


def descent(method) -> Descent:
    return Descent(method, PLAN, Fabric(accelerator="cpu", devices=1))


def kl(wanted: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    p, q = wanted.softmax(1), logits.softmax(1)
    return (p * (p / q).log()).sum(1).mean()


def stepped(net, batch, distance, lr: float):
    """Take one step from the equations: the weights after it."""
    params = trainable(net)
    loss = torch.nn.functional.cross_entropy
    gradients = torch.autograd.grad(loss(net(batch.labeled.x), batch.labeled.y), params)
    length = torch.cat([(w * g).flatten() for w, g in zip(params, gradients, strict=True)]).norm()
    there = deepcopy(net)
    with torch.no_grad():
        for one, w, g in zip(there.parameters(), params, gradients, strict=True):
            one += distance * w**2 * g / length
    found = torch.autograd.grad(
        loss(there(batch.labeled.x), batch.labeled.y), list(there.parameters())
    )
    with torch.no_grad():
        for w, g in zip(params, found, strict=True):
            w -= lr * g


@pytest.mark.parametrize("reference", ["previous", "pretrained", "noise"])
def test_three_steps_are_those_of_the_equations_in_float64(reference):
    method = made(reference=reference, noise=0.5, lr=1.0)
    net, descend = deepcopy(method.net), descent(method)
    history = [deepcopy(net)]
    for number, batch in zip(range(3), batches(), strict=False):
        torch.manual_seed(number)
        method.step(batch, descend)
        torch.manual_seed(number)
        with torch.no_grad():
            x = batch.labeled.x
            against = {"previous": history[-2:][0], "pretrained": history[0]}.get(reference, net)
            noisy = x + 0.5 * torch.randn_like(x) if reference == "noise" else x
            distance = kl(against(noisy), net(x))
        assert (float(distance) > 1e-12) == (number > 0 or reference == "noise")
        stepped(net, batch, distance, 1.0)
        history.append(deepcopy(net))
        for one, other in zip(method.net.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_divergence_is_kullback_leiblers_in_float64():
    random = torch.Generator().manual_seed(0)
    a, b = (3 * torch.randn(5, 4, generator=random, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(divergence(a, b), kl(a, b), rtol=1e-12, atol=0)
    assert float(divergence(a, a)) == 0
    assert divergence(a.bfloat16(), b.bfloat16()).dtype is torch.float32


@pytest.mark.parametrize("options", [{}, {"reference": "pretrained"}, {"noise": 0.0}])
@pytest.mark.parametrize("policy", ["train", "eval"])
@pytest.mark.parametrize("dropout", [False, True])
def test_where_predictions_are_the_references_the_step_is_plain_to_the_bit(
    options, policy, dropout
):
    if "noise" in options:
        options = options | {"reference": "noise"}
    method = made(policy, dropout, **options)
    plain = FineTune(deepcopy(method.net), TASK, batchnorm=policy).train()
    batch = next(batches())
    torch.manual_seed(3)
    method.step(batch, descent(method))
    torch.manual_seed(3)
    if method.reference == "noise":
        torch.randn_like(batch.labeled.x)
    plain.step(batch, descent(plain))
    wanted = plain.net.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in method.net.state_dict().items())


def test_the_teacher_is_the_network_of_the_step_before_and_takes_no_gradient():
    method = made("train", lr=0.5)
    descend = descent(method)
    for _, batch in zip(range(3), batches(), strict=False):
        before = deepcopy(method.net.state_dict())
        method.step(batch, descend)
        for key, value in method.teacher.state_dict().items():
            assert torch.equal(value, before[key])
    assert not trainable(method.teacher)


def test_the_pretrained_reference_stays_what_conversion_left():
    method = TRAM(network(), TASK, reference="pretrained", batchnorm="converted")
    start, last = {}, {}
    for epoch in fit(method, domains(), Plan(epochs=2)):
        last = deepcopy(method.teacher.state_dict())
        start = start or deepcopy(last)
        assert epoch.number or all(
            map(torch.equal, method.net.state_dict().values(), start.values())
        )
    assert all(map(torch.equal, start.values(), last.values()))


@pytest.mark.parametrize("reference", ["previous", "pretrained", "noise"])
def test_running_statistics_move_once_a_step(reference):
    method = made("train", reference=reference)
    before = [int(one.num_batches_tracked) for _, one in batchnorms(method.net)]
    plain = FineTune(deepcopy(method.net), TASK).train()
    batch = next(batches())
    method.step(batch, descent(method))
    plain.objective(batch)
    for (_, one), (_, other), count in zip(
        batchnorms(method.net), batchnorms(plain.net), before, strict=True
    ):
        assert torch.equal(one.running_mean, other.running_mean)
        assert int(one.num_batches_tracked) == count + 1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("reference", ["previous", "noise"])
def test_it_stays_nearer_to_the_pretrained_function_than_adaptive_sam(reference, seed):
    def trained(method, shift: float, epochs: int):
        train, held_out = (images(96, shift, 1000 * seed + more) for more in (shift < 0, 500))
        loading = Loading(batch_size=24, seed=seed)
        data = from_datasets(train, held_out, held_out, classes=CLASSES, loading=loading)
        for _ in fit(method, data, Plan(epochs=epochs, seed=seed)):
            pass
        return method.eval()

    start = trained(FineTune(network(seed), TASK), 0.0, 8).net
    distances = []
    for kind in (partial(TRAM, reference=reference), partial(SAM, rho=0.5, adaptive=True)):
        method = trained(kind(deepcopy(start), TASK, lr=0.1, batchnorm="eval"), -0.8, 6)
        seen = images(96, seed=777).tensors[0]
        with torch.no_grad():
            distances.append(float(kl(start.eval()(seen), method(seen))))
    assert distances[0] < 0.8 * distances[1]


def test_on_noise_it_keeps_no_copy_of_the_network():
    method = made(reference="noise")
    assert not list(method.teacher.parameters())
