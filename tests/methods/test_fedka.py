"""FedKA's server aligns the clients' mean with a target by features and votes alone."""

from __future__ import annotations

import math

import pytest
import torch
from lightning_fabric import Fabric
from toy import CLASSES, TwoDomains, network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.generalisation.fedavg import FedAvg
from adaptune.methods.unsupervised.fedka import FedKA
from adaptune.ops.federation import vote
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, Unlabeled

TASK = Classification(len(CLASSES), domains=2)


def made(**options: object) -> FedKA:
    return FedKA(network(), TASK, hidden=16, **options)


def some(data: TwoDomains, dtype=torch.float64) -> Batch:
    rows, theirs = torch.tensor([*range(6), *range(96, 102)]), torch.arange(7)
    return Batch(
        Labeled(data.x[rows].to(dtype), data.domain[rows], rows, y=data.y[rows]),
        Unlabeled(data.target[theirs].to(dtype), torch.full_like(theirs, 2), theirs),
        0.4,
    )


def gaussians(a: torch.Tensor, b: torch.Tensor, middle: float) -> float:
    total = 0.0
    for one in a:
        for other in b:
            square = float((one - other).square().sum())
            total += sum(math.exp(-square / (middle * 2.0**k)) for k in (-2, -1, 0, 1, 2))
    return total / (len(a) * len(b))


def test_terms_of_the_server_are_their_formulas_in_float64():
    method = made(match=0.7, disentangle=0.3, consensus=2.0).double().eval()
    with torch.no_grad():
        for number, one in enumerate(method.clients.copies):
            one.head.weight += 0.3 * number * torch.randn_like(one.head.weight)
    batch = some(TwoDomains(sources=2))
    done = method.align(batch)
    x, first, second = batch.unlabeled.x, *method.clients.copies
    ours = torch.cat([first.body(batch.labeled.x[:6]), second.body(batch.labeled.x[6:])]).detach()
    theirs = method.net.body(x).detach()
    both = torch.cat([ours, theirs])
    pairs = [
        (a - b).square().sum() for i, a in enumerate(both) for j, b in enumerate(both) if i != j
    ]
    middle = float(torch.stack(pairs).mean())
    squared = gaussians(ours, ours, middle) + gaussians(theirs, theirs, middle)
    squared -= 2 * gaussians(ours, theirs, middle)
    assert done.terms["match"].item() == pytest.approx(0.7 * squared, rel=1e-8)
    said = [method.critic(one).detach().squeeze(1).sigmoid() for one in (ours, theirs)]
    wanted = -(said[0].log().mean() + (1 - said[1]).log().mean()) / 2
    assert done.terms["disentangle"].item() == pytest.approx(float(wanted), rel=1e-10)
    votes = [one(x).argmax(1).tolist() for one in (first, second)]
    probabilities, total = method.net(x).softmax(1), 0.0
    for row, (a, b) in enumerate(zip(*votes, strict=True)):
        total -= math.log(probabilities[row, a].item()) if a == b else 0.0
    assert done.terms["consensus"].item() == pytest.approx(2.0 * total / 7, rel=1e-8)


def test_votes_count_and_the_first_of_several_wins():
    logits = torch.eye(3)[torch.tensor([[0, 1], [0, 2], [1, 0]])]
    chosen, share = vote(logits)
    assert chosen.tolist() == [0, 0]
    torch.testing.assert_close(share, torch.tensor([2 / 3, 1 / 3]))


def test_clients_move_first_then_the_server_and_all_meet():
    method, batch = made(local=2, server=1).train(), some(TwoDomains(sources=2), torch.float32)
    moved = []
    move = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))

    def descend(evaluate, *modules):
        moved.append(modules)
        return move(evaluate, *modules)

    for _ in range(4):
        method.step(batch, descend)
        if len(moved) == 3:
            for one in method.clients.copies:
                for key, value in method.net.state_dict().items():
                    assert torch.equal(one.state_dict()[key], value)
    clients, server = tuple(method.clients.copies), (method.net, method.critic)
    assert moved == [clients, clients, server, clients]


def test_batch_norms_of_the_server_follow_the_target_and_clients_stay_their_own():
    method, batch = made().train(), some(TwoDomains(sources=2), torch.float32)
    before = [
        norm.running_mean.clone() for one in method.clients.copies for _, norm in batchnorms(one)
    ]
    own = [norm.running_mean.clone() for _, norm in batchnorms(method.net)]
    method.align(batch)
    after = [norm.running_mean for one in method.clients.copies for _, norm in batchnorms(one)]
    assert all(map(torch.equal, before, after))
    _, norm = next(iter(batchnorms(method.net)))
    seen = method.net.body[0](batch.unlabeled.x).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.9 * own[0] + 0.1 * seen)


def test_a_client_that_breaks_tells_nothing():
    method, batch = made(local=1).train(), some(TwoDomains(sources=2), torch.float32)
    batch.labeled.x[6:] = torch.nan
    move = Descent(method, Plan(), Fabric(accelerator="cpu", devices=1))
    assert method.step(batch, move).terms["client 2 left out"] == 1
    ours, logits = method.clients.speak(method.net, batch.labeled, batch.unlabeled.x)
    assert (len(ours), len(logits)) == (6, 1), "client 1 alone"
    terms = method.step(batch, move).terms
    assert all(bool(term.isfinite()) for term in terms.values())


@pytest.fixture(scope="module")
def both():
    found = {}
    for name, method in {
        "fedavg": FedAvg(network(), TASK, lr=0.05, local=2),
        "fedka": made(lr=0.05),
    }.items():
        data = TwoDomains(sources=2, tint=0.6)
        for _ in fit(method, data, Plan(epochs=12, seed=1)):
            pass
        found[name] = method.eval(), data
    return found


def test_it_does_better_on_the_target_than_averaging_alone(both):
    (average, data), (method, _) = both["fedavg"], both["fedka"]
    assert data.accuracy(method) > data.accuracy(average) + 5


def test_what_clients_agree_on_is_right_at_least_as_often_as_they_are(both):
    method, data = both["fedka"]
    with torch.no_grad():
        logits = torch.stack([one(data.target) for one in method.clients.copies])
    chosen, agreed = vote(logits)
    sure = agreed == 1
    each = (logits.argmax(2) == data.truth).float().mean()
    assert (chosen == data.truth)[sure].float().mean() >= each


def test_rounds_without_steps_and_quorums_beyond_all_are_refused():
    for options in ({"local": 0}, {"server": -1}, {"quorum": 1.1}):
        with pytest.raises(ValueError, match="a round has 1 step"):
            made(**options)
