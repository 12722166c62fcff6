"""One table of vectors for the categories of many columns."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adaptune.networks.layers.multiplexed import PRIME, MultiplexedTable, category_values


def values(count: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2**32, (count, columns), generator=torch.Generator().manual_seed(seed))


def test_features_are_the_rows_at_the_hashes_column_by_column():
    table = MultiplexedTable(17, 3, [2, 1]).double()
    x = values(20, 2)
    found = table(x)
    for row, ids in enumerate(x.tolist()):
        wanted = []
        for number, column in enumerate((0, 0, 1)):
            a, b = int(table.factor[number]), int(table.shift[number])
            wanted.append(table.table.weight[((a * (ids[column] % PRIME) + b) % PRIME) % 17])
        assert torch.equal(found[row], torch.cat(wanted))


def test_two_values_meet_as_often_within_a_column_as_across_columns():
    table = MultiplexedTable(50, 1, [1, 1])
    places = table.places(values(4000, 2))
    across = (places[:, 0] == places[:, 1]).double().mean().item()
    within = (places[1:, 0] == places[:-1, 0]).double().mean().item()
    assert across == pytest.approx(1 / 50, abs=0.01)
    assert within == pytest.approx(1 / 50, abs=0.01)
    counts = places[:, 0].bincount(minlength=50)
    assert counts.min() > 40, "every row is used"


def test_one_value_lies_elsewhere_for_every_column_and_lookup_and_a_seed_says_where():
    x = values(200, 1).expand(-1, 3)
    first, again, other = (MultiplexedTable(10**6, 1, [1, 2, 1], seed=s) for s in (1, 1, 2))
    places = first.places(x)
    assert all((places[:, i] != places[:, j]).all() for i in range(4) for j in range(i))
    assert torch.equal(places, again.places(x))
    assert (places != other.places(x)).all()


def test_the_gradient_of_a_row_is_the_sum_of_what_each_column_asks_of_it_in_float64():
    table, x = MultiplexedTable(7, 3, [1, 1, 1]).double(), values(12, 3)
    head = nn.Linear(table.width, 2).double()
    y = torch.arange(12) % 2
    F.cross_entropy(head(table(x)), y).backward()
    apart = [table.table.weight.detach().clone().requires_grad_() for _ in range(3)]
    places = table.places(x)
    read = torch.cat([one[places[:, number]] for number, one in enumerate(apart)], 1)
    F.cross_entropy(head(read), y).backward()
    torch.testing.assert_close(table.table.weight.grad, sum(one.grad for one in apart))


def test_tables_of_single_columns_share_nothing_and_have_as_many_numbers():
    shared, apart = (MultiplexedTable(60, 2, [1, 1, 1], shared=told) for told in (True, False))
    assert shared.table.weight.shape == apart.table.weight.shape
    places = apart.places(values(500, 3))
    assert [(one.min().item() // 20, one.max().item() // 20) for one in places.T] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]


def learnt(table: MultiplexedTable, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(table, nn.Linear(table.width, 2))
    steps = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(60):
        steps.zero_grad()
        F.cross_entropy(net(x), y).backward()
        steps.step()
    return net


def made(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Give rows of a column of many values and five of three, of which each adds to the answer."""
    draw, rows, y = random.Random(seed), [], []
    for _ in range(count):
        own = [draw.randrange(150), *(draw.randrange(3) for _ in range(5))]
        rows.append([str(one) for one in own])
        y.append(int((own[0] * 37) % 11 - 5 + 2 * (sum(own[1:]) - 5) > 0))
    return category_values(rows), torch.tensor(y)


def test_it_learns_a_column_of_many_values_that_a_table_of_its_own_has_no_room_for():
    (x, y), (unseen, truth) = made(1500, 0), made(500, 1)
    reached = {}
    for shared in (True, False):
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            table = MultiplexedTable(90, 8, [1] * 6, seed=seed, shared=shared)
            net = learnt(table, x, y)
            scores.append(100 * (net(unseen).argmax(1) == truth).double().mean().item())
        reached[shared] = sum(scores) / 3
    assert reached[True] > reached[False] + 2


def test_a_value_that_was_never_seen_needs_no_row_and_a_saved_table_looks_up_alike():
    table = MultiplexedTable(10, 2, [1, 1])
    other = MultiplexedTable(10, 2, [1, 1], seed=9)
    other.load_state_dict(table.state_dict())
    x = category_values([["new", "newer"], ["", "\ud800"]])
    assert torch.equal(other(x), table(x))


@pytest.mark.parametrize(
    ("rows", "lookups", "shared"),
    [(0, [1], True), (5, [], True), (5, [0], True), (1, [1, 1], False)],
)
def test_a_table_without_rows_or_columns_is_refused_in_words(rows, lookups, shared):
    with pytest.raises(ValueError, match="give more rows"):
        MultiplexedTable(rows, 2, lookups, shared=shared)
