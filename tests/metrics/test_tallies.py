"""What a set comes to is the same for any batches and processes, in memory that does not grow."""

from functools import cache
from typing import get_args

import pytest
import torch
from two import on_two

from adaptune.metrics.class_scores import ClassScore
from adaptune.metrics.classification import ClassTally
from adaptune.metrics.column import Column
from adaptune.metrics.places import PlaceTally
from adaptune.metrics.sample import Sample, ranks
from adaptune.results.images import unpack
from adaptune.runtime.processes import rank_and_world
from adaptune.types import Outputs

SETS = {"large": (2500, 5), "small": (40, 5), "one row": (1, 5)}
"""Rows and classes; of one row the second process has none."""


@cache
def outputs(rows: int, classes: int) -> Outputs:
    random = torch.Generator().manual_seed(rows)
    logits = 3 * torch.randn(rows, classes, generator=random)
    y = torch.randint(classes, (rows,), generator=random)
    return Outputs(logits, y, torch.randn(rows, 3, generator=random), torch.arange(rows))


def told(name: str, size: int = 33) -> dict:
    """Show a set to both tallies, in batches of which each process takes its share."""
    rows, classes = SETS[name]
    rank, world = rank_and_world()
    tally, sample = ClassTally(classes - 1, unknown=True), Sample(200)
    for at in torch.arange(rows).split(size)[rank::world]:
        for one in (tally, sample):
            one.add(outputs(rows, classes).at(at))
    for one in (tally, sample):
        one.merge()
    return {"scores": tally.scores(), "worst": tally.mistakes(), "sample": vars(sample.outputs())}


def told_of_places(rows: int, size: int = 3) -> dict:
    """Show masks and what is said of their places to both tallies; row 4 asks nothing."""
    random = torch.Generator().manual_seed(rows)
    y = torch.randint(4, (rows, 6, 8), generator=random)  # of which 3 is no class
    y[4:5] = 255
    logits, features = (torch.randn(rows, width, 3, 4, generator=random) for width in (3, 5))
    index = torch.randperm(rows, generator=random)
    rank, world = rank_and_world()
    tally, sample = PlaceTally(3), Sample(64)
    for at in torch.arange(rows).split(size)[rank::world]:
        for one in (tally, sample):
            one.add(Outputs(logits, y, features, index).at(at))
    for one in (tally, sample):
        one.merge()
    return {"scores": tally.scores(), "worst": [], "sample": vars(sample.outputs())}


def told_by_score(score: str, size: int = 33) -> dict:
    """Show a set of two classes to the tally of a score."""
    rank, world = rank_and_world()
    tally = ClassTally(2, score=score)
    for at in torch.arange(300).split(size)[rank::world]:
        tally.add(outputs(300, 2).at(at))
    tally.merge()
    return {"scores": tally.scores(), "worst": tally.mistakes(), "sample": {}}


PLACES = {"many masks": 20, "one mask": 1}


def everything() -> dict:
    masks = {name: told_of_places(rows) for name, rows in PLACES.items()}
    scores = {name: told_by_score(name) for name in get_args(ClassScore)}
    return masks | scores | {name: told(name) for name in SETS}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[dict]:
    """What each of two processes came to."""
    return on_two(everything, tmp_path_factory.mktemp("tallies"))


def same(one: dict, other: dict) -> None:
    assert one["scores"] == other["scores"]
    assert one["worst"] == other["worst"]
    for key, value in one["sample"].items():
        assert torch.equal(value, other["sample"][key]), key


@pytest.mark.parametrize("name", SETS)
def test_two_processes_come_to_what_one_does_to_the_bit(both, name):
    alone = told(name)
    for one in both:
        same(one[name], alone)


@pytest.mark.parametrize("name", PLACES)
def test_two_processes_come_to_what_one_does_of_places_too(both, name):
    alone = told_of_places(PLACES[name])
    for one in both:
        same(one[name], alone)
    same(told_of_places(PLACES[name], 1), alone)


@pytest.mark.parametrize("name", get_args(ClassScore))
def test_two_processes_and_other_batches_come_to_what_one_does_by_every_score(both, name):
    alone = told_by_score(name)
    for one in both:
        same(one[name], alone)
    same(told_by_score(name, 7), alone)


def test_of_rows_with_places_some_places_of_fewer_rows_are_sampled():
    found = told_of_places(20)["sample"]
    assert found["features"].shape == (8, 5, 8)
    assert found["logits"].shape == (8, 3, 8)
    assert found["y"].shape == (8, 8)


@pytest.mark.parametrize("size", [1, 7, 2500])
def test_other_batches_come_to_the_same_to_the_bit(size):
    same(told("large", size), told("large"))


def test_a_sample_holds_the_rows_that_rank_lowest_in_the_order_of_the_set():
    index = told("large")["sample"]["index"]
    lowest = ranks(torch.arange(2500)).argsort()[:200].sort().values
    assert torch.equal(index, lowest)
    assert torch.equal(told("small")["sample"]["index"], torch.arange(40))


def test_confusion_and_accuracy_are_those_of_a_plain_count():
    scores, whole = told("large")["scores"], outputs(2500, 5)
    guess = whole.logits.argmax(1)
    wanted = [[int(((whole.y == a) & (guess == b)).sum()) for b in range(5)] for a in range(5)]
    assert [list(row) for row in scores.detail["confusion"]] == wanted
    assert scores.main.value == pytest.approx(100 * float((guess == whole.y).double().mean()))
    assert unpack(scores.detail["right"], 2500).tolist() == (guess == whole.y).tolist()


def test_a_column_keeps_its_numbers_and_moves_seldom():
    column, moved, before = Column(torch.int64), 0, -1
    for start in range(0, 10_000, 10):
        column.add(torch.arange(start, start + 10))
        moved, before = moved + (column.room.data_ptr() != before), column.room.data_ptr()
    assert torch.equal(column.values(), torch.arange(10_000))
    assert moved < 8
