"""What every task promises: a loss is the mean over rows of a loss per row."""

from __future__ import annotations

import pytest
import torch
from places import Places

from adaptune.tasks import TASKS
from adaptune.tasks.classification import Classification

RANDOM = torch.Generator().manual_seed(0)


def rows_of(kind: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give outputs and labels of a kind."""
    if kind == "class":
        y = torch.randint(4, (count,), generator=RANDOM)
        return torch.randn(count, 4, generator=RANDOM, dtype=torch.float64), y
    if kind == "mask":
        y = torch.randint(6, (count, 6, 8), generator=RANDOM)  # two of the six are no classes
        return torch.randn(count, 4, 3, 4, generator=RANDOM, dtype=torch.float64), y
    if kind == "tags":
        y = torch.randint(4, (count, 6), generator=RANDOM)
        return torch.randn(count, 4, 6, generator=RANDOM, dtype=torch.float64), y
    assert kind == "value", "say here what the labels of a new kind are"
    pair = torch.randn(2, count, 4, generator=RANDOM, dtype=torch.float64)
    return pair[0], pair[1]


def parts_add_up(task, one, other) -> None:
    (a, y), (b, z) = one, other
    for losses, (output, labels) in ((task.losses(a, y), one), (task.losses(b, z), other)):
        assert losses.shape == (len(output),)
        torch.testing.assert_close(losses.mean(), task.loss(output, labels), rtol=0, atol=1e-6)
    whole = task.loss(torch.cat([a, b]), torch.cat([y, z]))
    parts = (len(a) * task.loss(a, y) + len(b) * task.loss(b, z)) / (len(a) + len(b))
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("name", [name for name, one in TASKS.items() if not one.joins])
def test_the_losses_of_parts_add_up_to_the_loss_of_the_whole(name):
    task = TASKS[name](4)
    parts_add_up(task, rows_of(task.labels, 5), rows_of(task.labels, 11))


def test_places_that_are_ignored_leave_the_sum_of_parts_alone():
    task, parts = Places(3), []
    for count, ignored in ((2, 1), (5, 7)):
        y = torch.randint(3, (count, 8, 8), generator=RANDOM)
        y[:, :ignored] = task.ignore
        parts.append((torch.randn(count, 3, 8, 8, generator=RANDOM, dtype=torch.float64), y))
    parts_add_up(task, *parts)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_the_loss_of_classification_is_the_mean_of_its_losses(scale):
    output, y = torch.randn(257, 10, generator=RANDOM) * scale, torch.arange(257) % 10
    task = Classification(10)
    torch.testing.assert_close(task.loss(output, y), task.losses(output, y).mean())
