"""Methods that say that they label every place do so at the words of texts: outputs (N, K, L)."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from tagged import TaggedTexts, token_network
from toy import CLASSES
from words import meets_words

from adaptune.engine.loop import fit
from adaptune.engine.method import Method, task_kind
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.runs.needs import refuse_pixels
from adaptune.tasks.tagging import Tagging

PLAN = Plan(epochs=3, seed=5, layout="contiguous")
TAKE = [
    name
    for name, method in METHODS.items()
    if issubclass(Tagging, task_kind(method)) and not meets_words(method)
]

REFUSED = {
    "ibn": "no batch norm could be split",
    "adabn": "adapts batch norms and the network has none",
    "alpha-bn": "adapts batch norms and the network has none",
    "osuda": "adapts batch norms and the network has none",
    "mixstyle": "needs a network of two stages or more",
    "mixup": "changes or mixes pixels",
    "soma": "low-rank adapters go on linear layers",
}
"""What methods say to a network of hashed words and layer norms; soma takes encoders."""

BRIEF = {"gradual-unfreezing": {"lr": 0.3, "share": 0.25}, "smos": {"lr": 0.1}}
"""Options of what would do little in three epochs."""

LEARN = [name for name in TAKE if name not in REFUSED and METHODS[name].needs.labeled]


@cache
def trained():
    net = token_network()
    for _ in fit(FineTune(net, Tagging(len(CLASSES)), lr=0.03), TaggedTexts(), PLAN):
        pass
    return net


def made(name: str, **options: object) -> tuple[Method, TaggedTexts]:
    method = METHODS[name]
    refuse_pixels(method)
    sources = method.needs.domains
    net = token_network() if method.needs.labeled else deepcopy(trained())
    return method(net, Tagging(len(CLASSES), sources), **options), TaggedTexts(sources=sources)


def test_those_that_tag_words_are_those_that_label_places():
    assert set(TAKE) - set(LEARN) - set(REFUSED) == {"tent", "shot"}
    assert {"ft", "lp", "daft", "dann", "mcd", "minent", "drm", "tram"} < set(LEARN)
    assert "dacs" not in TAKE


@pytest.mark.parametrize("name", LEARN)
def test_it_learns_to_tag_words(name):
    method, data = made(name, **BRIEF.get(name, {}))
    before = data.accuracy(method)
    for epoch in fit(method, data, PLAN):
        assert all(value == value for value in epoch.terms.values())
    assert data.accuracy(method) > max(60, before + 10)


@pytest.mark.parametrize("name", ["tent", "shot"])
def test_it_adapts_to_texts_without_tags(name):
    method, data = made(name)
    start = data.accuracy(trained())
    for epoch in fit(method, data, PLAN):
        assert all(value == value for value in epoch.terms.values())
    assert data.accuracy(method) > start - 3


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_it_says_in_words(name):
    with pytest.raises(ValueError, match=REFUSED[name]):
        for _ in fit(*made(name), PLAN):
            pass


@pytest.mark.parametrize("name", ["lp-ft", "daft"])
def test_training_on_tags_resumes_bit_for_bit(name):
    def method() -> Method:
        return made(name, **({"cs": 5} if name == "lp-ft" else {}))[0]

    whole, again = method(), method()
    states = {epoch.number: deepcopy(epoch.state) for epoch in fit(whole, TaggedTexts(), PLAN)}
    for _ in fit(again, TaggedTexts(), PLAN, state=states[1]):
        pass
    found = again.state_dict()
    assert all(torch.equal(found[key], value) for key, value in whole.state_dict().items())
