"""Few steps: cells are laid out seed by seed, training images are kept by class, means compare."""

import pytest

from adaptune.data.domains import Loading
from adaptune.data.opening import open_domains
from benchmarks import few_steps
from benchmarks.comparisons import lost, rivals
from benchmarks.costs import steps

PROTOCOL = {
    "domains": ["a", "b"],
    "seeds": [0, 1],
    "sizes": [[0, 20], [5, 20]],
    "variants": {"ft": {}, "daft": {}},
}


def row(domain, images, count, variant, home, elsewhere, seed=0):
    cell = few_steps.Cell(domain, images, count, variant, seed)
    return vars(cell) | {"id": home, "ood": elsewhere}


def test_cells_come_seed_by_seed_and_a_row_says_of_which_cell_it_is():
    cells = list(few_steps.cells(PROTOCOL))
    assert len(cells) == len(set(cells)) == 16
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8
    assert few_steps.cell_of(vars(cells[3]) | {"id": 1.0}) == cells[3]


@pytest.mark.parametrize("images", [2, 4])
def test_so_many_training_images_a_class_are_kept_and_the_same_ones_for_a_seed(photos, images):
    data = open_domains(photos, loading=Loading(batch_size=8))
    few, again, other = (few_steps.fewer(data, images, seed) for seed in (0, 0, 1))
    labels = few.sets["train"].labels
    assert sorted(labels) == sorted(list(range(len(data.classes))) * images)
    assert len(few.sets["val"]) == min(few_steps.LEAST_VALIDATED, len(data.sets["val"]))
    assert few.augmented is few.sets["train"]
    assert few.sets["test"] is data.sets["test"]
    files = [set(one.sets["train"].paths) for one in (few, again, other)]
    assert files[0] == files[1] != files[2]
    assert files[0] <= set(data.sets["train"].paths)


def test_means_are_over_the_runs_that_all_variants_have():
    rows = [
        row("a", 0, 20, "ft", 10.0, 1.0),
        row("a", 0, 20, "daft", 30.0, 3.0),
        row("b", 0, 20, "ft", 20.0, 2.0),
        row("b", 0, 20, "daft", 40.0, 4.0),
        row("b", 0, 20, "daft", 99.0, 99.0, seed=1),
    ]
    assert few_steps.means(rows) == {(0, 20): {"ft": (15.0, 1.5), "daft": (35.0, 3.5)}}
    table = steps({"rows": rows})
    assert "| all | 20 | 15.0 / 1.5 | 35.0 / 3.5 |" in table
    more = [{**one, "steps": 80} for one in rows]
    drawing = few_steps.drawn(rows + more)
    assert drawing.startswith("<svg")
    assert drawing.count("<svg") == 1


RESULTS = {
    "summary": [{"method": "daft (default)", "seconds": 40.0}, {"method": "ft", "seconds": 30.0}],
    "versus": [
        {
            "one": "daft (default)",
            "other": "ft",
            "ood": {"mean": 1.0, "low": 0.5, "high": 1.5},
            "id": {"mean": -2.0, "low": -3.0, "high": -1.0},
            "wins": 2,
            "ties": 1,
            "losses": 0,
        },
        {"one": "ft", "other": "daft (default)"},
    ],
    "rows": [
        {"domain": "a", "method": "daft (default)", "id_accuracy": 50.0, "ood": {"b": 30.0}},
        {"domain": "a", "method": "daft, averaged", "id_accuracy": 90.0, "ood": {"b": 90.0}},
        {"domain": "a", "method": "ft", "id_accuracy": 52.5, "ood": {"b": 20.0}},
    ],
}


def test_rivals_are_told_what_ours_is_ahead_by_and_what_both_take():
    assert rivals(RESULTS).splitlines()[2:] == [
        "| `ft` | +1.0 (+0.5 to +1.5) | -2.0 (-3.0 to -1.0) | 2 / 1 / 0 | 40 / 30 |"
    ]


def test_lost_are_the_tests_where_a_rival_that_is_not_daft_is_above():
    head, _, *found = lost(RESULTS).splitlines()
    assert "1 of 2 tests" in head
    assert found == ["| a | a (ID) | `ft` | 50.0 | 52.5 | 2.5 |"]
