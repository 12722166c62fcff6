"""Episodes through a step, a language model of the target, and the weights that it gives."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import texts
import tokens
import torch
import toy
from lightning_fabric import Fabric
from torch.utils.data import TensorDataset

from adaptune.engine.descent import Descent
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.few_shot.ditfend import DITFEND
from adaptune.networks.backbones import open_backbone
from adaptune.tasks.classification import Classification
from adaptune.types import Batch, Labeled, empty_unlabeled

TASK = Classification(2, domains=3)
PLAN = Plan(epochs=8, optimizer="adamw", layout="contiguous")


class Sources:
    """Two sources, of which one speaks as the target does, and a few texts of the target."""

    def __init__(self) -> None:
        far, near, own = (
            tokens.rows(words, count, each=2, seed=seed).tensors
            for seed, (words, count) in enumerate(
                ((tokens.OLD, 48), (tokens.NEW, 48), (tokens.NEW, 8))
            )
        )
        far = (far[0], 1 - far[1])
        self.x, self.y = (torch.cat(part) for part in zip(far, near, own, strict=True))
        self.domain = torch.tensor([0] * 48 + [1] * 48 + [2] * 8)

    def rows(self, at: torch.Tensor) -> Labeled:
        return Labeled(self.x[at], self.domain[at], at, y=self.y[at])

    def steps(self, needs: object) -> int:
        del needs
        return 5

    def batches(self, needs: object, epoch: int, start: int = 0):
        random = torch.Generator().manual_seed(epoch)
        order = torch.randperm(96, generator=random)
        for number in range(start, self.steps(needs)):
            own = torch.randint(96, 104, (6,), generator=random)
            yield Batch(self.rows(torch.cat([order[18 * number :][:18], own])), empty_unlabeled())

    def scan(self, split: str, *, shuffled: bool = False):
        del split, shuffled
        for at in torch.arange(104).split(40):
            yield self.rows(at)


def batch(progress: float) -> Batch:
    return replace(next(iter(Sources().batches(DITFEND.needs, 0))), progress=progress)


def prepared(**options: object) -> DITFEND:
    method = DITFEND(tokens.network(), TASK, **options)
    method.prepare(Sources())
    return method


def test_a_query_is_asked_after_a_step_on_the_support_in_float64():
    method, rows = prepared(inner=0.3).double(), batch(0.0).labeled
    losses = []
    for domain in range(3):
        own = [n for n in range(len(rows.x)) if rows.domain[n] == domain]
        half = (len(own) + 1) // 2
        twin = deepcopy(method.net)
        TASK.loss(twin(rows.x[own[:half]]), rows.y[own[:half]]).backward()
        with torch.no_grad():
            for one in twin.parameters():
                one -= 0.3 * one.grad
            losses.append(TASK.loss(twin(rows.x[own[half:]]), rows.y[own[half:]]))
    term = method.objective(batch(0.0)).terms["query"]
    assert term.item() == pytest.approx(torch.stack(losses).mean().item())

    # The gradient is that through the step: it agrees with differences of the loss.
    weight, small = method.net.head.weight, 1e-6
    (slope,) = torch.autograd.grad(term, weight)
    around = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * small
        around.append(method.episodes(rows)[0].item())
        with torch.no_grad():
            weight[0, 0] -= sign * small
    assert slope[0, 0].item() == pytest.approx((around[0] - around[1]) / (2 * small), rel=1e-4)


def test_weights_are_inverse_perplexities_over_their_mean_and_of_the_target_one():
    method, rows = prepared(apart=10, sharpness=2.0).double(), batch(0.9).labeled
    told = []
    for ids in rows.x:
        at = [n for n, one in enumerate(ids.tolist()) if one > 4]
        logs = []
        for n in at:
            read = ids.clone()
            read[n] = method.words.mask
            chosen = torch.zeros_like(read, dtype=torch.bool)
            chosen[n] = True
            said = method.words(method.language, read[None], chosen[None])[1]
            logs.append(said.log_softmax(1)[0, ids[n]])
        told.append(-torch.stack(logs).mean())
    source = rows.domain < 2
    inverse = torch.stack(told).exp() ** -2.0
    wanted = torch.where(source, inverse / inverse[source].mean(), 1.0)
    found = method.weights(rows)
    torch.testing.assert_close(found, wanted)
    losses = TASK.losses(method.net(rows.x), rows.y)
    term = method.objective(batch(0.9)).terms["task"]
    assert term.item() == pytest.approx((wanted * losses).mean().item())


def test_texts_of_the_source_that_speaks_as_the_target_does_come_to_count_more():
    method = DITFEND(tokens.network(), TASK, lr=0.03)
    for _ in fit(method, Sources(), PLAN):
        pass
    data = Sources()
    weights = method.weights(data.rows(torch.arange(104)))
    assert weights[48:96].mean() > 2 * weights[:48].mean()
    assert torch.equal(weights[96:], torch.ones(8))
    assert weights[:96].mean().item() == pytest.approx(1.0, rel=1e-5)
    assert tokens.accuracy(method.net) > 95


def test_without_sharpness_all_texts_count_alike():
    method = prepared(sharpness=0.0, meta=0.0)
    rows = batch(0.0)
    assert torch.equal(method.weights(rows.labeled), torch.ones(24))
    plain = TASK.loss(method.net(rows.labeled.x), rows.labeled.y)
    assert method.objective(rows).terms["task"].item() == pytest.approx(plain.item())


def test_episodes_and_hidden_words_move_everything_and_weighted_labels_the_network():
    method = prepared()
    descent = Descent(method, PLAN, Fabric(accelerator="cpu", devices=1))
    for progress, stay in ((0.0, ()), (0.6, ("words", "language"))):
        before = {key: value.clone() for key, value in method.named_parameters()}
        method.step(batch(progress), descent)
        still = {key for key, value in method.named_parameters() if torch.equal(value, before[key])}
        assert still == {key for key in before if stay and key.startswith(stay)}


def test_a_domain_of_one_text_makes_no_episode():
    method, rows = prepared(), Sources().rows(torch.tensor([0, 1, 50, 100]))
    alone = method.episodes(rows)[0]
    assert alone.item() == method.episodes(Sources().rows(torch.tensor([0, 1])))[0].item()
    lone = Sources().rows(torch.tensor([0]))
    assert torch.equal(method.episodes(lone)[1], method.net(lone.x))


def test_a_run_that_goes_on_ends_at_the_same_bits():
    plan = Plan(epochs=4, layout="contiguous")
    whole = DITFEND(tokens.network(), TASK)
    states = [deepcopy(one.state) for one in fit(whole, Sources(), plan)]
    again = DITFEND(tokens.network(5), TASK)
    list(fit(again, Sources(), plan, state=states[2]))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_an_encoder_takes_the_step_and_its_gradient(tmp_path):
    net = open_backbone(f"hf:{texts.encoder(tmp_path)}", ["neg", "pos"], length=10)
    method = DITFEND(net, TASK, inner=0.1)
    method.prepare(Sources())
    found = method.objective(batch(0.0))
    found.total.backward()
    assert all(one.grad is not None for one in method.net.parameters() if one.dim() > 1)


def test_what_cannot_be_is_refused_in_words():
    with pytest.raises(ValueError, match="this network reads images: give"):
        DITFEND(toy.network(), TASK)
    with pytest.raises(ValueError, match="apart from 1 up"):
        prepared(apart=0)
    data = tokens.domains()
    assert isinstance(data.sets["train"].data, TensorDataset)
    with pytest.raises(ValueError, match="give them as the last --source"):
        DITFEND(tokens.network(), TASK).prepare(data)
