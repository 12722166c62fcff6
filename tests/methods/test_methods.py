"""Every listed method through the same contract."""

from __future__ import annotations

from collections.abc import Container, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from dense_start import source_trained
from pairs import TASK as PAIRS
from pairs import Pairs, matches, pair_network
from places import DensePlaces, dense_network
from toy import CLASSES, TwoDomains, classifies, domains, network, teachers, trained
from words import meets_words, words_network

from adaptune.batchnorm.layers import batchnorms
from adaptune.engine.descent import Descent, trainable
from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import Epoch, fit
from adaptune.engine.method import Method, hyperparameters
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching
from adaptune.tasks.segmentation import Segmentation
from adaptune.tasks.task import Task
from adaptune.types import Batch, Domains, Labeled, Needs, Split, Unlabeled

LISTED = [name for name, one in METHODS.items() if not one.needs.tokens]
"""Methods that can learn from images; those that hide words have tests of their own."""
TASK = Classification(len(CLASSES))
PLAN = Plan(epochs=3, seed=5)
SMALL: dict[str, dict[str, object]] = {
    "adaptsegnet": {"hidden": 4},
    "cocoop": {"lr": 0.03},
    "coop": {"lr": 0.03},
    "cotta": {"views": 4},
    "cdan": {"hidden": 16},
    "fedka": {"hidden": 16},
    "gprn": {"regions": "grid"},
    "kl-dp": {"lr": 0.03},
    "memspm": {"items": 8, "parts": 4, "encoder": 1.0},
    "pareto-da": {"hidden": 16},
    "tpt": {"lr": 2.0, "views": 8},
    "vida": {"views": 2},
    "samda": {"generic": "test_efficientnet", "generic_weights": "none", "generic_size": 32},
}
"""Options without which a method would be slow on the toy."""


def made(name: str, **options: object) -> Method:
    if "cs" in hyperparameters(METHODS[name]):
        options.setdefault("cs", 8)
    if "alpha" in hyperparameters(METHODS[name]):
        options.setdefault("alpha", 0.5)
    kind, options = METHODS[name], SMALL.get(name, {}) | options
    return kind(network_of(name), task_of(name), *teachers(kind), **options)


def of_places(name: str) -> bool:
    """Tell whether a method works on a class at every place alone, as on the toy of places."""
    return not (classifies(METHODS[name]) or matches(METHODS[name]))


def network_of(name: str) -> Network:
    """Give the toy's network where a method starts from: one trained on the source if need be."""
    if matches(METHODS[name]):
        return pair_network(known=name == "cwcl")
    if meets_words(METHODS[name]):
        return words_network(plain=not METHODS[name].needs.labeled)
    if METHODS[name].needs.labeled:
        return dense_network() if of_places(name) else network()
    return source_trained() if of_places(name) else trained()


def task_of(name: str) -> Task:
    """Give the toy's task as a method needs it."""
    task = Segmentation(len(CLASSES)) if of_places(name) else TASK
    task = PAIRS if matches(METHODS[name]) else task
    return replace(task, domains=METHODS[name].needs.domains)


def data_for(name: str, **options: int):
    """Give the toy that a method's needs ask for."""
    needs = METHODS[name].needs
    if matches(METHODS[name]):
        return Pairs(sources=needs.domains, **options)
    if of_places(name):
        return DensePlaces(sources=needs.domains, tint=0.2 if needs.labeled else 1.0, **options)
    if not (needs.unlabeled or needs.domains > 1):
        return domains(**options)
    return TwoDomains(sources=needs.domains, cast=0.0 if needs.labeled else 0.5, **options)


class Needed:
    """Data that refuse whatever a method may not see.

    Beyond its ``needs``, one with a budget ``ask`` may ask for labels, and one that chooses among
    ``cs`` may validate.
    """

    def __init__(self, data: Domains, needs: Needs, options: Container[str] = ()) -> None:
        self._data, self.needs, self.asks = data, needs, "ask" in options
        self.splits = ("train", "val") if "cs" in options else ("train",)

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterator[Batch]:
        assert needs == self.needs
        for batch in self._data.batches(needs, epoch, start):
            assert len(batch.labeled) == 0 or needs.labeled
            assert len(batch.unlabeled) == 0 or needs.unlabeled
            assert not hasattr(batch.unlabeled, "y")
            yield batch

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterator[Labeled]:
        assert self.needs.labeled, "it needs no labels and reads some"
        assert split in self.splits, "it reads what it will be chosen or tested by"
        return iter(self._data.scan(split, shuffled=shuffled))

    def unlabeled(self, *, shuffled: bool = False) -> Iterator[Unlabeled]:
        assert self.needs.unlabeled, "it needs no target and reads it"
        rows = list(self._data.unlabeled(shuffled=shuffled))
        assert not any(hasattr(one, "y") for one in rows)
        return iter(rows)

    def query_labels(self, index: torch.Tensor) -> torch.Tensor:
        assert self.asks, "it has no budget of labels and asks for some"
        return self._data.query_labels(index)

    def steps(self, needs: Needs) -> int:
        return self._data.steps(needs)


def accuracy(method: Method, model: Method | Network) -> float:
    if isinstance(method.task, Matching):
        return Pairs(sources=method.needs.domains).accuracy(model)
    if isinstance(method.task, Segmentation):
        labeled = method.needs.labeled
        places = DensePlaces(sources=method.needs.domains, tint=0.2 if labeled else 1.0)
        if not method.needs.unlabeled:
            places.target, places.truth = places.x, places.y
        return places.accuracy(model)
    if method.needs.unlabeled:
        return TwoDomains(cast=0.0 if method.needs.labeled else 0.5).accuracy(model)
    data = TwoDomains(sources=method.needs.domains) if method.needs.domains > 1 else domains()
    return evaluate(model, data.scan("test"), TASK).scores.main.value


@pytest.mark.parametrize("name", LISTED)
def test_every_method_learns_the_toy(name):
    method = made(name)
    before = accuracy(method, method.net)
    for _ in fit(method, data_for(name), replace(PLAN, epochs=12)):
        pass
    assert accuracy(method, method) > max(min(before + 10, 99), 60)


@cache
def whole(name: str) -> Whole:
    """Train through three epochs on data that refuse whatever the method may not see."""
    method, options = made(name), hyperparameters(METHODS[name])
    data = Needed(data_for(name), method.needs, options)
    epochs = [replace(one, state=deepcopy(one.state)) for one in fit(method, data, PLAN)]
    return Whole(method, epochs)


@dataclass(frozen=True)
class Whole:
    """A method that was trained, with what each epoch came to."""

    method: Method
    epochs: list[Epoch]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", LISTED)
def test_hidden_labels_and_what_is_not_needed_are_never_read(name):
    if METHODS[name].setting == "test-time":
        method = made(name)
        data = Needed(data_for(name), method.needs, hyperparameters(METHODS[name]))
        answered = [len(answer.logits) for answer in stream(method, data.unlabeled(), PLAN)]
        assert answered == [24] * 4
        return
    epochs = whole(name).epochs
    assert [one.whole for one in epochs] == [True] * (4 if whole(name).method.groups() else 1)


@pytest.mark.parametrize("look", ["scan", "unlabeled", "query_labels", "batches"])
def test_data_that_are_not_needed_cannot_be_read(look):
    without = Needs(labeled=look != "scan", unlabeled=look == "scan")
    data = Needed(TwoDomains(), without)
    looks = {
        "scan": lambda: data.scan("train"),
        "unlabeled": data.unlabeled,
        "query_labels": lambda: data.query_labels(torch.tensor([0])),
        "batches": lambda: list(data.batches(Needs(unlabeled=True), 0)),
    }
    with pytest.raises(AssertionError):
        looks[look]()
    with pytest.raises(AssertionError):
        data.scan("test")


@pytest.mark.parametrize("name", LISTED)
def test_only_declared_groups_move_in_a_step(name):
    method = made(name)
    data = data_for(name)
    method.prepare(data)
    method.refresh(data)
    descent = Descent(method, PLAN, _fabric())
    declared = {id(p) for group in method.groups() for p in trainable(group.module)}
    before = {key: value.clone() for key, value in method.named_parameters()}
    method.train()
    if declared:
        method.step(next(iter(data.batches(method.needs, 0))), descent)
    for key, value in method.named_parameters():
        follows = key.startswith("teacher.") and not value.requires_grad
        assert torch.equal(value, before[key]) or follows or id(value) in declared


@pytest.mark.parametrize("name", LISTED)
def test_three_epochs_resumed_after_one_equal_three_epochs_bit_for_bit(name):
    resumed, states = made(name), [one.state for one in whole(name).epochs]
    for _ in fit(resumed, data_for(name), PLAN, state=deepcopy(states[min(1, len(states) - 1)])):
        pass
    assert same(whole(name).method.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", LISTED)
def test_the_seed_alone_decides_the_run(name):
    def begun(seed: int, data_seed: int) -> dict[str, torch.Tensor]:
        plan, method = replace(PLAN, seed=seed), made(name)
        for epoch in fit(method, data_for(name, seed=data_seed), plan):
            if epoch.number == 1:
                return {key: value.clone() for key, value in method.state_dict().items()}
        return method.state_dict()

    state = begun(PLAN.seed, 0)
    assert same(state, whole(name).epochs[:2][-1].state["method"])
    if made(name).groups():
        assert not same(state, begun(PLAN.seed + 1, 1))


@pytest.mark.parametrize("name", LISTED)
def test_batch_norms_keep_to_the_policy_after_train_epochs_and_deepcopy(name):
    for one in (whole(name).method, deepcopy(whole(name).method)):
        one.train()
        moves = {norm.training for _, norm in batchnorms(one.net)}
        assert moves == {one.net.batchnorm != "eval"}


@pytest.mark.parametrize("name", LISTED)
def test_defaults_stand_in_the_signature_and_are_kept(name):
    method = METHODS[name](network_of(name), task_of(name), *teachers(METHODS[name]))
    for option, parameter in hyperparameters(METHODS[name]).items():
        assert parameter.default is not parameter.empty
        assert getattr(method, option) == parameter.default


@pytest.mark.parametrize("name", LISTED)
def test_the_docstring_says_what_it_does_to_batch_norm(name):
    assert "atch norm" in METHODS[name].__doc__


def test_a_method_is_abstract_and_its_subclasses_are_final():
    with pytest.raises(TypeError, match="abstract"):
        Method(network(), TASK)
    for method in METHODS.values():
        assert method.__bases__ == (Method,)


def _fabric():
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)
