"""Who answers what a method asks, and what becomes of the table that people fill in."""

import re
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from adaptune.data.annotators import OracleAnnotator, PeopleAnnotator
from adaptune.data.datasets import from_datasets
from adaptune.data.domains import Loading
from adaptune.data.opening import other_domains
from adaptune.runtime.signals import Stopped, Waiting

CLASSES = ("dots", "rings", "stripes")


def opened(sketches, **others):
    return other_domains({}, classes=CLASSES, target=sketches, loading=Loading(), **others)


@pytest.fixture
def asking(sketches, tmp_path):
    """The sketches as a target, and the table by which people are asked."""
    table = tmp_path / "questions.csv"
    return replace(opened(sketches), answers=PeopleAnnotator(table)), table


def ask(data, *rows) -> list[int]:
    return data.query_labels(torch.tensor(rows)).tolist()


def test_an_oracle_gives_labels_when_asked_and_in_no_other_way(sketches):
    data = opened(sketches, oracle=True)
    assert ask(data, 0, 59, 20) == [0, 2, 1]
    assert data.queried == {0, 59, 20}
    assert not any(hasattr(rows, "y") for rows in data.unlabeled())
    for rows in (data.target.rows, data.target.augmented):
        assert set(rows.labels) == {0}, "what is served does not know the labels itself"


def test_an_oracle_of_ones_own_can_be_put_in(sketches):
    assert ask(replace(opened(sketches), answers=OracleAnnotator([1] * 60)), 3, 4) == [1, 1]


def test_people_are_asked_for_what_is_missing_and_what_they_wrote_stays(asking, sketches):
    data, table = asking
    with pytest.raises(Waiting, match="the method asks for 2 labels"):
        ask(data, 0, 1)
    assert data.queried == set()
    first, second = sorted(sketches.glob("dots/*"))[:2]
    assert table.read_text() == f"path,label\n{first},\n{second},\n"
    table.write_bytes(f"\ufeffpath,label,sure\r\n{first}, Dots ,yes\r\n{second}".encode())
    with pytest.raises(Stopped, match="2 of 3 labels are still missing") as stopped:
        ask(data, 0, 1, 2)
    assert stopped.value.code == 75
    third = sorted(sketches.glob("dots/*"))[2]
    assert table.read_bytes().decode() == (
        f"\ufeffpath,label,sure\r\n{first}, Dots ,yes\r\n{second}\r\n{third},,\r\n"
    )
    table.write_text(f"label,path\ndots,{first}\nrings,{second}\nstripes,{third}\n")
    assert ask(data, 2, 0, 1) == [2, 0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\n{0},cats\n", "line 2: no class is called 'cats': mend it"),
        ("path,label\n{0},dots\n{0},rings\n", "line 3: {0} is rings, and dots in a line before"),
        ("path,label\n/gone.png,dots\n", "line 2: no image of the target is called '/gone.png'"),
        ("path,label\n{0},dots,rings\n", "line 2 has 3 values: quote values with commas"),
        ("path;label\n{0};dots\n", "line 1: expected the columns path,label, separated by commas"),
        ("", "line 1: expected the columns path,label"),
        ('path,label\n"{0},dots\n', "quotes or lengths are not those of a CSV"),
        ("path,label\n{0},\udcff\n", "is not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_and_left_as_it_is(
    asking, sketches, text, said
):
    data, table = asking
    first = sorted(sketches.glob("dots/*"))[0]
    written = text.format(first).encode(errors="surrogateescape")
    table.write_bytes(written)
    with pytest.raises(ValueError, match=re.escape(said.format(first))):
        ask(data, 0)
    assert table.read_bytes() == written


def test_the_same_label_twice_and_a_line_without_one_are_no_contradiction(asking, sketches):
    data, table = asking
    first = sorted(sketches.glob("dots/*"))[0]
    table.write_text(f"path,label\n{first},dots\n\n{first},\n{first},Dots\n")
    assert ask(data, 0) == [0]


def test_people_cannot_be_asked_about_images_without_files(tmp_path):
    rows = TensorDataset(torch.zeros(2, 3, 8, 8), torch.arange(2))
    data = from_datasets(rows, rows, rows, classes=CLASSES, target=rows)
    with pytest.raises(ValueError, match="images without files"):
        ask(replace(data, answers=PeopleAnnotator(tmp_path / "questions.csv")), 0)
