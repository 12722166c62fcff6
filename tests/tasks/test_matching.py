"""Matching: its loss by the formula, and methods of any task that learn by it."""

from __future__ import annotations

from copy import deepcopy

import paired
import pytest
import torch
import torch.nn.functional as F
from paired import TASK, domains, network
from two import on_two

from adaptune.engine.evaluate import evaluate
from adaptune.engine.loop import fit
from adaptune.engine.method import Method, refuse_head, refuse_task, task_kind
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.tasks.classification import Classification
from adaptune.tasks.matching import Matching

ANY = sorted(
    name
    for name, one in METHODS.items()
    if issubclass(Matching, task_kind(one)) and issubclass(Classification, task_kind(one))
)
"""Methods of any task."""

LEARNING = [
    name for name in ANY if METHODS[name].needs == Method.needs and name not in ("daft", "soma")
]
"""Those that need nothing but pairs; daft wants a linear head, and soma takes seconds here."""


def method(name: str, seed: int = 0, **options: object) -> Method:
    return METHODS[name](network(seed), TASK, **options)


def formula(rows: torch.Tensor, partners: torch.Tensor, groups: list[int]) -> torch.Tensor:
    """Compute the loss of each row as it is written down: row by row, equal partners left out."""
    alike, losses = rows @ partners.T, []
    for i, own in enumerate(groups):
        others = [j for j, group in enumerate(groups) if group != own or j == i]
        there = torch.logsumexp(alike[i, others], 0) - alike[i, i]
        back = torch.logsumexp(alike[others, i], 0) - alike[i, i]
        losses.append((there + back) / 2)
    return torch.stack(losses)


def test_the_loss_is_the_formula_with_equal_partners_no_negatives():
    random = torch.Generator().manual_seed(0)
    rows, partners = (torch.randn(6, 4, generator=random).double() for _ in range(2))
    groups = [0, 1, 2, 1, 3, 1]
    partners = F.normalize(partners, dim=1)
    found = TASK.contrast(3 * rows, partners, torch.tensor(groups)[:, None])
    assert torch.allclose(found, formula(3 * rows, partners, groups), atol=1e-12)


def test_partners_are_read_by_the_network_of_a_method_and_nothing_else():
    x, y = paired.pairs(9).tensors
    own = method("ft")
    out = own.net(x)
    assert torch.allclose(own.task.losses(out, y), TASK.contrast(out, own.net.partners(y), y))
    with pytest.raises(ValueError, match="partners are read by a network"):
        TASK.losses(out, y)


def test_the_warmth_is_learnt_and_bounded():
    own, data = method("ft", lr=0.1), domains()
    before = own.net.joint.log_warmth.item()
    list(fit(own, data, Plan(epochs=1)))
    assert own.net.joint.log_warmth.item() != before
    with torch.no_grad():
        own.net.joint.log_warmth.fill_(9.0)
    assert own.net.joint.warmth == 100


@pytest.mark.parametrize("name", LEARNING)
def test_a_method_of_any_task_learns_pairs_and_goes_on_as_if_it_had_not_stopped(name):
    data, plan = domains(), Plan(epochs=6)
    own = method(name)
    before = evaluate(own, data.scan("test"), TASK).scores
    states = [deepcopy(epoch.state) for epoch in fit(own, data, plan)]
    after = evaluate(own, data.scan("test"), TASK).scores
    assert after.loss < before.loss
    assert after.main.value > before.main.value
    again = method(name, 1)
    list(fit(again, data, plan, state=states[3]))
    for key, value in own.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_a_method_of_linear_heads_says_so():
    with pytest.raises(ValueError, match="whose head is a Readout, and this one's is a Joint"):
        refuse_head(METHODS["daft"], network())


def test_methods_of_classes_refuse_pairs_in_words():
    with pytest.raises(ValueError, match="adaptune methods --task matching"):
        refuse_task(METHODS["lp"], Matching)


def test_parts_of_a_batch_are_refused():
    with pytest.raises(ValueError, match="matching compares every row with all others"):
        list(fit(method("ft"), domains(), Plan(epochs=1, accumulate=2)))


def trained(name: str) -> dict:
    """Train in float64 on batches that two processes cannot share evenly."""
    data = domains(batch_size=15, double=True)
    own = METHODS[name](network().double(), TASK).double()
    terms = [epoch.terms for epoch in fit(own, data, Plan(epochs=2, layout="contiguous"))]
    scores = evaluate(own, data.scan("test"), TASK).scores.to_dict()
    return {"state": own.state_dict(), "terms": terms, "scores": scores}


def everything() -> dict:
    return {name: trained(name) for name in ("ft", "sam")}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes came to."""
    return on_two(everything, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", ["ft", "sam"])
def test_two_processes_learn_what_one_does(both, name):
    alone = trained(name)
    for own in (one[name] for one in both):
        for key, value in alone["state"].items():
            assert torch.allclose(own["state"][key].double(), value.double(), atol=1e-9), key
        assert own["scores"] == pytest.approx(alone["scores"])
