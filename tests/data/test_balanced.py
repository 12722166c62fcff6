"""Batches of as many images of each class: which rows, by what alone, and resumed."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset
from toy import CLASSES, images, network

from adaptune.commands import main
from adaptune.data import DomainData, Loading, from_datasets
from adaptune.data.order import balanced_keys, batch_plan, batch_shares, share_of_process
from adaptune.engine.loop import fit
from adaptune.engine.plan import Plan
from adaptune.methods.supervised.ft import FineTune
from adaptune.tasks.classification import Classification
from adaptune.types import Needs

KINDS = [0] * 40 + [1] * 15 + [2] * 5


def rare(**options) -> DomainData:
    """Give two domains of 40 images, in which one class is rare."""
    x, y = images(120).tensors
    kept = torch.cat([(y == 0).nonzero()[:20], (y == 1).nonzero()[:16], (y == 2).nonzero()[:4]])
    one = TensorDataset(x[kept.flatten()], y[kept.flatten()])
    both = TensorDataset(*(torch.cat([part, part]) for part in one.tensors))
    loading = Loading(batch_size=12, **options)
    data = from_datasets(both, one, one, classes=CLASSES, loading=loading)
    return replace(data, parts={"train": (40, 40)})


def test_classes_are_even_in_any_stretch_and_no_row_of_a_class_waits_for_another_twice():
    keys = balanced_keys(KINDS, seed=3, epoch=1)
    rows = [row for row, _ in keys]
    assert len(rows) == len(KINDS)
    kinds = [KINDS[row] for row in rows]
    assert Counter(kinds) == {0: 20, 1: 20, 2: 20}
    for at in range(0, 60, 6):
        assert set(Counter(kinds[at : at + 6]).values()) == {2}
    seen = Counter(rows)
    assert {seen[row] for row in range(40)} == {0, 1}
    assert {seen[row] for row in range(40, 55)} == {1, 2}
    assert {seen[row] for row in range(55, 60)} == {4}
    assert len(set(keys)) == 60  # what comes again is varied anew


def test_an_epochs_rows_depend_on_seed_epoch_and_salt_alone():
    def rows(*words: int) -> list[tuple[int, int]]:
        return balanced_keys(KINDS, *words)

    assert rows(0, 1) == rows(0, 1)
    others = [rows(0, 1), rows(1, 1), rows(0, 2), rows(0, 1, 7)]
    assert len({tuple(one) for one in others}) == 4
    met = {row for epoch in range(12) for row, _ in rows(0, epoch)}
    assert met == set(range(60))


def test_every_domain_is_balanced_by_itself_and_processes_share_its_batches():
    kinds = [0] * 9 + [1] * 3 + [0] * 4 + [1] * 20
    shares = batch_shares([12, 24], 8, kinds)
    plan = batch_plan(shares, 6, 0, 0, alone=False)
    for group in plan.groups:
        drawn = Counter((row >= 12, kinds[row]) for row, _ in group)
        assert set(drawn.values()) == {2}
        assert len(drawn) == 4
    parts = [share_of_process(plan.groups, rank, 2) for rank in (0, 1)]
    for at, group in enumerate(plan.groups):
        assert sorted(parts[0][at] + parts[1][at]) == sorted(group)


def test_batches_of_data_are_balanced_and_passes_that_measure_are_not():
    data = rare(balanced=True)
    batches = list(data.batches(Needs(domains=2), 0))
    assert len(batches) == data.steps(Needs(domains=2)) == 6
    for batch in batches:
        for domain in range(2):
            y = batch.labeled.y[batch.labeled.domain == domain]
            assert torch.bincount(y).tolist() == [2, 2, 2]
    assert sum(len(one) for one in data.scan("train")) == 80
    plain = torch.cat([one.labeled.y for one in rare().batches(Needs(), 0)])
    assert torch.bincount(plain)[2] < 10


def test_a_run_that_goes_on_within_an_epoch_and_between_two_is_the_same_to_the_bit():
    def made() -> FineTune:
        return FineTune(network(), Classification(3, domains=2))

    plan, data = Plan(epochs=2, seed=1, layout="contiguous"), rare(balanced=True, seed=1)
    whole, steps = made(), iter(range(99))
    states = [
        deepcopy(epoch.state)
        for epoch in fit(whole, data, plan, pause=lambda: next(steps) in (2, 7))
    ]
    assert len(states) == 5
    for state in states[1:4]:
        again = made()
        for _ in fit(again, data, plan, state=state):
            pass
        for key, value in whole.state_dict().items():
            assert torch.equal(value, again.state_dict()[key])


def test_a_rare_class_is_found_more_often():
    found = []
    for balanced in (False, True):
        method, data = FineTune(network(), Classification(3, domains=2)), rare(balanced=balanced)
        for _ in fit(method, data, Plan(epochs=2, layout="contiguous")):
            pass
        x, y = images(90, seed=5).tensors
        found.append((method.eval()(x).argmax(1) == 2)[y == 2].double().mean().item())
    assert found[1] > found[0]


def test_labels_that_are_no_classes_are_refused_and_so_is_what_has_none():
    data = from_datasets(
        *[TensorDataset(torch.randn(9, 3, 8, 8), torch.randn(9, 1))] * 3,
        labels="value",
        loading=Loading(balanced=True),
    )
    with pytest.raises(ValueError, match="--balanced needs images of one class each"):
        data.steps(Needs())
    odd = TensorDataset(torch.randn(3, 3, 8, 8), torch.tensor([0, 9, 1]))
    data = from_datasets(odd, odd, odd, classes=CLASSES, loading=Loading(balanced=True))
    with pytest.raises(ValueError, match="row 1 of train has no class"):
        data.steps(Needs())


def test_it_is_an_option_of_training_alone(capsys):
    for command, there in (("fit", True), ("doctor", False)):
        assert main([command, "--help"]) == 0
        assert ("--balanced" in capsys.readouterr().out) == there
