"""Methods that say that they label every place do so: outputs are (N, K, h, w)."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from places import DensePlaces, Places, dense_network
from toy import CLASSES
from words import meets_words

from adaptune.engine.loop import fit
from adaptune.engine.method import Method, task_kind
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.daft import DAFT
from adaptune.methods.supervised.ft import FineTune
from adaptune.tasks.segmentation import Segmentation
from adaptune.tasks.task import Task

PLAN = Plan(epochs=3, seed=5, layout="contiguous")
DENSE = [
    name
    for name, method in METHODS.items()
    if issubclass(Places, task_kind(method)) and not meets_words(method)
]

BRIEF = {"gradual-unfreezing": {"lr": 0.1, "share": 0.25}, "smos": {"lr": 0.03}}
"""Options of what would do little in three epochs."""


@cache
def trained():
    net = dense_network()
    for _ in fit(FineTune(net, Places(len(CLASSES))), DensePlaces(), PLAN):
        pass
    return net


def made(name: str, task: type = Places, **options: object) -> tuple[Method, DensePlaces]:
    method = METHODS[name]
    sources = method.needs.domains
    net = dense_network() if method.needs.labeled else deepcopy(trained())
    return method(net, task(len(CLASSES), sources), **options), DensePlaces(sources=sources)


def test_those_that_label_places_are_the_ones_that_say_so():
    wanted = {"ft", "lp", "lp-ft", "l2-sp", "gradual-unfreezing", "sam", "daft", "dann", "tent"}
    wanted |= {"soma", "smos", "mixstyle", "mixup", "group-dro", "fedavg"}
    wanted |= {"adabn", "mcd", "alpha-bn", "tram", "ibn", "drm", "shot", "minent", "osuda"}
    assert set(DENSE) == wanted
    masks = {name for name, one in METHODS.items() if issubclass(Segmentation, task_kind(one))}
    masks -= {name for name in masks if meets_words(METHODS[name])}
    alone = {"dacs", "adaptsegnet", "sfda-seg", "idm", "datr", "samda", "gprn"}
    assert masks - set(DENSE) == alone


@pytest.mark.parametrize("name", [name for name in DENSE if METHODS[name].needs.labeled])
def test_it_learns_to_label_places(name):
    method, data = made(name, Segmentation, **BRIEF.get(name, {}))
    source = DensePlaces(sources=data.sources)
    source.target, source.truth = source.x, source.y
    before = source.accuracy(method)
    for _ in fit(method, data, PLAN):
        pass
    assert source.accuracy(method) > max(60, before + 10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tent", {}),
        ("adabn", {}),
        ("alpha-bn", {}),
        ("alpha-bn", {"core": True, "alpha": 0.1}),
        ("shot", {}),
        ("osuda", {}),
    ],
)
def test_it_adapts_to_places_without_labels(name, options):
    method, data = made(name, Segmentation, **options)
    start = data.accuracy(trained())
    for epoch in fit(method, data, PLAN):
        assert all(value == value for value in epoch.terms.values())
    assert data.accuracy(method) > start


@pytest.mark.parametrize("name", ["ft", "lp-ft", "daft"])
def test_training_on_masks_resumes_bit_for_bit(name):
    def method() -> Method:
        return made(name, Segmentation, **({"cs": 5} if name == "lp-ft" else {}))[0]

    whole, again = method(), method()
    states = {epoch.number: deepcopy(epoch.state) for epoch in fit(whole, DensePlaces(), PLAN)}
    for _ in fit(again, DensePlaces(), PLAN, state=states[1]):
        pass
    found = again.state_dict()
    assert all(torch.equal(found[key], value) for key, value in whole.state_dict().items())


def test_a_step_of_places_is_that_of_its_rows():
    """One step of fine-tuning goes down the mean over places, ignored ones counting as 0."""
    method, data = made("ft")
    rows = next(iter(data.scan("train")))
    logits = method.net(rows.x)
    logs = logits.log_softmax(1).movedim(1, -1)
    asked = rows.y != 255
    picked = logs[asked].gather(1, rows.y[asked][:, None])
    wanted = -picked.sum() / rows.y.numel()
    torch.testing.assert_close(method.task.loss(logits, rows.y), wanted)


def test_a_task_without_a_known_curvature_asks_for_the_published_head():
    class Steep(Places):
        curvature = Task.curvature

    with pytest.raises(ValueError, match="none is known of steep: give --head published"):
        DAFT(dense_network(), Steep(len(CLASSES)))
    method, data = DAFT(dense_network(), Steep(len(CLASSES)), head="published"), DensePlaces()
    for _ in fit(method, data, Plan(epochs=1, layout="contiguous")):
        pass


def test_the_curvature_of_a_conditioned_head_is_the_tasks_times_the_largest_moment():
    class Half(Places):
        curvature = Places.curvature / 2

    found = []
    for task in (Places, Half):
        method = DAFT(dense_network(), task(len(CLASSES)))
        method.prepare(DensePlaces())
        found.append(method.net.head.bound)
    assert found[0] == pytest.approx(2 * found[1])
