"""Clients learn apart and meet in rounds; one that is not sound is left out and named."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, network
from two import on_two

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.nonfinite import NonFiniteError
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.fedavg import FedAvg
from adaptune.methods.supervised.ft import FineTune
from adaptune.ops.federation import weighted_mean
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled

TASK = Classification(len(CLASSES), domains=2)
PLAN = Plan(epochs=2, seed=3, layout="contiguous")


def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def some(data: TwoDomains, counts: tuple[int, int] = (8, 8), dtype=torch.float64) -> Batch:
    rows = torch.cat([torch.arange(counts[0]), 96 + torch.arange(counts[1])])
    return Batch(Labeled(data.x[rows].to(dtype), data.domain[rows], rows, y=data.y[rows]))


def made(**options: object) -> FedAvg:
    return FedAvg(network(), TASK, **options)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in module.parameters()])


def test_a_round_of_one_step_is_a_step_down_the_weighted_loss_of_all():
    """Without momentum, and with batch norms held: the centralised gradient, in float64."""
    method = made(local=1, lr=0.1, batchnorm="eval").double().train()
    method.clients.rows.copy_(torch.tensor([30.0, 10.0]))
    batch, central = some(TwoDomains(sources=2)), deepcopy(method.net)
    loss = 0.0
    for domain, share in ((0, 0.75), (1, 0.25)):
        own = batch.labeled.domain == domain
        logs = central(batch.labeled.x[own]).log_softmax(1)
        loss = loss - share * logs.gather(1, batch.labeled.y[own][:, None]).mean()
    loss.backward()
    wanted = flat(central) - 0.1 * torch.cat([p.grad.flatten() for p in central.parameters()])
    method.step(batch, Descent(method, Plan(momentum=0.0), fabric()))
    torch.testing.assert_close(flat(method.net), wanted)
    for client in method.clients.copies:
        assert torch.equal(flat(client), flat(method.net))


def test_within_a_round_clients_are_those_of_training_alone_and_the_network_is_their_mean():
    data, method = TwoDomains(sources=2), made(local=3).double().train()
    alone = [FineTune(deepcopy(method.net), TASK).train() for _ in range(2)]
    descend = Descent(method, Plan(), fabric())
    moves = [Descent(one, Plan(), fabric()) for one in alone]
    batch = some(data)
    for _ in range(2):
        method.step(batch, descend)
        for domain, (one, move) in enumerate(zip(alone, moves, strict=True)):
            own = batch.labeled.domain == domain
            rows = batch.labeled
            part = Labeled(rows.x[own], rows.domain[own], rows.index[own], y=rows.y[own])
            one.step(Batch(part), move)
    for client, one in zip(method.clients.copies, alone, strict=True):
        for key, value in one.net.state_dict().items():
            torch.testing.assert_close(client.state_dict()[key], value)
    for key, value in method.net.state_dict().items():
        if value.is_floating_point():
            both = [one.net.state_dict()[key] for one in alone]
            torch.testing.assert_close(value, (both[0] + both[1]) / 2)
    method.step(batch, descend)
    assert torch.equal(flat(method.clients.copies[0]), flat(method.clients.copies[1]))


def test_domains_count_by_their_images():
    method, data = made(), TwoDomains(sources=2)
    data.domain[:120] = 0
    method.prepare(data)
    assert method.clients.rows.tolist() == [120, 72]
    alike = made(weigh="equal")
    alike.prepare(data)
    assert alike.clients.rows.tolist() == [1, 1]


def test_batch_norms_are_averaged_or_stay_local():
    batch = some(TwoDomains(sources=2), dtype=torch.float32)
    for norms in ("averaged", "local"):
        method = made(local=1, norms=norms).train()
        method.step(batch, Descent(method, Plan(), fabric()))
        (_, server), *_ = batchnorms(method.net)
        own = [next(iter(batchnorms(one)))[1] for one in method.clients.copies]
        mean = (own[0].running_mean + own[1].running_mean) / 2
        torch.testing.assert_close(server.running_mean, mean)
        same = torch.equal(own[0].running_mean, own[1].running_mean)
        assert same == (norms == "averaged")
        assert torch.equal(own[0].weight, own[1].weight) == (norms == "averaged")
        head = [one.head.weight for one in method.clients.copies]
        assert torch.equal(*head)


def test_a_client_that_breaks_is_named_and_the_round_goes_on():
    data, method = TwoDomains(sources=2), made(local=2, norms="local").train()
    descend, batch = Descent(method, Plan(), fabric()), some(data, dtype=torch.float32)
    broken = deepcopy(batch)
    broken.labeled.x[8:] = torch.nan
    told = method.step(broken, descend).terms
    assert (told["client 1 left out"], told["client 2 left out"]) == (0, 1)
    assert told["client 2"] == 0
    assert told["client 1"] > 0
    first = method.clients.copies[0].state_dict()
    for key, value in method.net.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, first[key])
    assert method.step(batch, descend).terms["client 2 left out"] == 1, "its round is over"
    for client in method.clients.copies:
        assert torch.equal(flat(client), flat(method.net))
        assert all(bool(value.isfinite().all()) for value in client.state_dict().values())
    assert method.step(batch, descend).terms["client 2 left out"] == 0


def test_where_every_client_breaks_the_step_is_refused():
    method, batch = made().train(), some(TwoDomains(sources=2), dtype=torch.float32)
    batch.labeled.x[:] = torch.nan
    before = flat(method.net)
    with pytest.raises(NonFiniteError, match="the term 'client 1' is nan"):
        method.step(batch, Descent(method, Plan(), fabric()))
    assert torch.equal(flat(method.net), before)


def test_a_run_goes_on_without_a_client_that_is_broken_from_the_first_image():
    data = TwoDomains(sources=2)
    data.x[96:] = torch.inf
    method = made(lr=0.05)
    *_, last = fit(method, data, Plan(epochs=8, seed=1))
    assert last.terms["client 2 left out"] == 1
    assert last.skipped == 0
    data.target, data.truth = data.x[:96], data.y[:96]
    assert data.accuracy(method) > 80


def test_parts_of_a_batch_and_rounds_without_steps_are_refused():
    with pytest.raises(ValueError, match="1 step of a client or more"):
        made(local=0)
    with pytest.raises(ValueError, match="counts its steps"):
        list(fit(made(), TwoDomains(sources=2), Plan(epochs=1, accumulate=2)))
    with pytest.raises(ValueError, match="trains copies of the network"):
        list(fit(made(), TwoDomains(sources=2), Plan(epochs=1, layer_decay=0.9)))
    method = made().train()
    with pytest.raises(ValueError, match="no image of labelled domain 2"):
        method.objective(some(TwoDomains(sources=2), (8, 0), torch.float32))


def work() -> dict[str, torch.Tensor]:
    from adaptune.runtime.processes import rank_and_world

    rank, world = rank_and_world()
    method = made(local=2).double().train()
    descend, data = Descent(method, Plan(), fabric()), TwoDomains(sources=2)
    for _ in range(3):
        rows = torch.tensor([*range(8), *range(96, 104)])[rank::world]
        own = Labeled(data.x[rows].double(), data.domain[rows], rows, y=data.y[rows])
        descend.at(0.0, rows=len(rows))
        method.step(Batch(own), descend)
    return method.state_dict()


def test_two_processes_are_one(tmp_path):
    alone = work()
    for found in on_two(work, tmp_path):
        for key, value in alone.items():
            torch.testing.assert_close(found[key], value)


def test_it_learns_of_both_domains():
    data = TwoDomains(sources=2)
    method = made(lr=0.05)
    for _ in fit(method, data, PLAN):
        pass
    data.target, data.truth = data.x, data.y
    assert data.accuracy(method) > 70


def test_the_mean_is_that_of_its_shares():
    parts = [torch.tensor([1.0, 3.0]).double(), torch.tensor([5.0, 7.0]).double()]
    found = weighted_mean(parts, torch.tensor([0.25, 0.75]))
    assert found.tolist() == [0.25 * 1 + 0.75 * 5, 0.25 * 3 + 0.75 * 7]


def test_a_step_is_one_descent():
    calls = []
    method = made().train()
    move = Descent(method, Plan(), fabric())

    def descend(evaluate, *modules):
        calls.append(modules)
        return move(evaluate, *modules)

    method.step(some(TwoDomains(sources=2), dtype=torch.float32), partial(descend))
    assert calls == [tuple(method.clients.copies)]
