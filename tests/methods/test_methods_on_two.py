"""Two processes adapt as one does, whatever the method makes of a batch as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import CLASSES, classifies, images, network, teachers, tinted, trained
from two import on_two
from words import meets_words, words_network

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.data.annotators import OracleAnnotator
from adaptune.engine.loop import fit
from adaptune.engine.method import Method, hyperparameters
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.tasks.classification import Classification

ADAPTING = [
    name
    for name, method in METHODS.items()
    if method.needs.unlabeled and method.setting != "test-time" and classifies(method)
]
# Which rows of a class are drawn is each process's own; where the gate looks right behind batch
# norm at domains that were normalised apart, their means are alike, and rounding would decide.
CERTAIN: dict[str, object] = {"chance": 1.0, "threshold": 0.0}
OPTIONS: dict[str, dict[str, object]] = {
    "gdcan": {"chance": 1.0},
    "lftl": {"ask": 12, "rounds": 2},
    "pareto-da": {"hidden": 16},
    **{
        f"{name}, {way}": {"passes": way} | (CERTAIN if name == "gdcan" else {})
        for name in ("dann", "gdcan", "mcd")
        for way in ("joint", "separate", "apart")
        if hyperparameters(METHODS[name])["passes"].default != way
    },
}
CASES = [*ADAPTING, *(case for case in OPTIONS if case not in ADAPTING)]
UNEVEN = 15
"""Images in a batch, which two processes cannot share evenly."""


def data() -> DomainData:
    """Give a source and a target in float64, and an oracle."""
    x, y = images(70, shift=-0.4, seed=30).tensors
    sets = [images(70), images(30, seed=1), images(30, seed=2)]
    target = torch.utils.data.TensorDataset(tinted(x, 0.7), y)
    for one in (*sets, target):
        one.tensors = (one.tensors[0].double(), one.tensors[1])
    loading = Loading(batch_size=UNEVEN)
    served = from_datasets(*sets, classes=CLASSES, target=target, loading=loading)
    return replace(served, answers=OracleAnnotator(y.tolist()))


def kind(case: str) -> type[Method]:
    return METHODS[case.partition(",")[0]]


def made(case: str, **options: object) -> Method:
    net = network() if kind(case).needs.labeled else trained()
    net = words_network() if meets_words(kind(case)) else net
    options = OPTIONS.get(case, {}) | options
    task, others = Classification(len(CLASSES)), teachers(kind(case))
    return kind(case)(net.double(), task, *others, **options).double()


def copied(method: Method) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def looked(name: str) -> dict[str, torch.Tensor]:
    """Look at the data twice, as before the first two epochs."""
    method = made(name)
    method.prepare(data())
    for _ in range(2):
        torch.manual_seed(0)
        method.refresh(data())
    return copied(method)


def learnt(name: str, epochs: int = 2, **options: object) -> dict:
    """Train; give the state before and after, and the terms."""
    method, begun, terms = made(name, **options), {}, []
    plan = Plan(epochs=epochs, seed=3, layout="channels_last")
    for epoch in fit(method, data(), plan):
        if epoch.number == 0:
            method.double()  # what was registered for these data
            begun = copied(method)
        terms.append(epoch.terms)
    return {"begun": begun, "state": copied(method), "terms": terms}


def started() -> None:
    """Train what methods start and learn from, which two processes would come to otherwise."""
    for seed in range(3):
        trained(seed)


def everything() -> dict:
    found = {name: {"looked": looked(name), "run": learnt(name)} for name in CASES}
    return found | {"drawn": learnt("gdcan", epochs=4, chance=0.8)}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes came to."""
    return on_two(everything, tmp_path_factory.mktemp("adapting"), alone=started)


@pytest.fixture(scope="module")
def alone() -> dict:
    return everything()


def same(a: dict, b: dict) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[key], b[key]) for key in a)


def close(found: dict, wanted: dict, tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_what_is_known_before_a_step_is_the_same_on_both_and_as_in_one_process(both, alone, name):
    a, b = (one[name]["looked"] for one in both)
    assert same(a, b)
    close(a, alone[name]["looked"], 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_that_of_one_process_and_the_same_bits_on_both(both, alone, name):
    a, b = (one[name]["run"] for one in both)
    assert same(a["state"], b["state"])
    assert a["terms"] == b["terms"]
    wanted = alone[name]["run"]
    close(a["begun"], wanted["begun"], 1e-9)
    close(a["state"], wanted["state"], 1e-9)
    moved = [key for key, _ in made(name).named_parameters()]
    moves = any(not torch.equal(wanted["begun"][key], wanted["state"][key]) for key in moved)
    assert moves == bool(made(name).groups())


def test_what_each_process_draws_for_itself_leaves_the_same_network_on_both_that_learnt(both):
    a, b = (one["drawn"] for one in both)
    assert same(a["state"], b["state"])
    first, *_, last = (terms["task"] for terms in a["terms"][1:])
    assert last < 0.8 * first
