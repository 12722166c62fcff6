"""What the word beside an example means: classes, or numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from adaptune.data import Loading, Shares, from_datasets, open_domains
from adaptune.data.labels import NoLabels, labels_of
from adaptune.data.labels.values import ValueLabels, number
from adaptune.data.listing import Example, Listing
from adaptune.data.sources import find_domains
from adaptune.data.words import read_place, read_word

SOME = Shares(0.0, 0.0)


def table(folder, labels):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{at}.npy,{label}" for at, label in enumerate(labels)]
    file = folder / "all.csv"
    file.write_text("\n".join(["path,label", *rows]))
    return file


def test_numbers_of_a_table_are_read_as_float32_rows_in_its_order(tmp_path):
    data = open_domains(table(tmp_path, ["0.5", " -2", "1e3"]), shares=SOME, labels="value")
    assert data.classes == ("value",)
    assert data.sets["train"].labels == [[0.5], [-2.0], [1000.0]]
    assert open_domains(tmp_path / "all.csv", labels="value", classes=["heat"]).classes == ("heat",)
    y = data.sets["train"].meaning.read(data.sets["train"].examples[0])
    assert (y.dtype, y.shape) == (torch.float32, (1,))


@pytest.mark.parametrize("wrong", ["high", "1,5", "nan", "inf", "1e39", "1_000"])
def test_a_label_that_is_no_number_is_refused_with_its_row(tmp_path, wrong):
    file = table(tmp_path, ["0.5", f'"{wrong}"'])
    with pytest.raises(ValueError, match=f"finite numbers such as 1.5, and .*1.npy has '{wrong}'"):
        open_domains(file, shares=SOME, labels="value")


def test_a_wrong_number_of_another_domain_is_refused_too(tmp_path):
    own, other = table(tmp_path / "own", ["1"]), table(tmp_path / "far", ["1", "much"])
    with pytest.raises(ValueError, match="the labels of far .*1.npy has 'much'"):
        open_domains(own, {"far": other}, shares=Shares(0, 0, "all"), labels="value")


def test_values_of_what_was_trained_on_are_not_tested_elsewhere(tmp_path):
    own, other = table(tmp_path / "own", ["1", "2"]), table(tmp_path / "far", ["1", "2", "3"])
    data = open_domains(own, {"far": other}, shares=SOME, labels="value")
    assert data.ood["far"].labels == [[3.0]]
    assert any("far: 2 images left out" in note for note in data.notes)
    with pytest.raises(ValueError, match="all its files are in the training data"):
        open_domains(own, {"far": own}, shares=SOME, labels="value")


def test_values_have_no_unknown_and_no_oracle(tmp_path):
    file = table(tmp_path, ["1"])
    with pytest.raises(ValueError, match="no unknown class"):
        open_domains(file, shares=SOME, labels="value", open_set=True)
    with pytest.raises(ValueError, match="--oracle answers with classes"):
        open_domains(file, shares=SOME, labels="value", target=file, oracle=True)


def numbers(y):
    return TensorDataset(torch.randn(len(y), 4), y)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3), (6, 2, 2)])
def test_numbers_of_a_data_set_keep_their_shape_with_one_as_a_column(shape):
    y = torch.randn(shape, dtype=torch.float64)
    data = from_datasets(*[numbers(y)] * 3, labels="value", loading=Loading(batch_size=4))
    read = torch.cat([rows.y for rows in data.scan("train")])
    assert read.dtype == torch.float32
    assert torch.equal(read, y.float().reshape(6, *(shape[1:] or (1,))))


def test_a_number_of_a_data_set_that_is_none_ends_the_pass_that_reads_it():
    data = from_datasets(*[numbers(torch.tensor([1.0, torch.nan]))] * 3, labels="value")
    with pytest.raises(ValueError, match="row 1 of train cannot be used: its label is .*finite"):
        list(data.scan("train"))


def test_labels_of_several_sizes_are_refused():
    rows = [(torch.zeros(2), torch.zeros(1)), (torch.zeros(2), torch.zeros(2))]
    data = from_datasets(rows, rows, rows, labels="value")
    with pytest.raises(ValueError, match=re.escape("their labels are (1,) and (2,)")):
        list(data.scan("train"))


def test_classes_stay_whole_numbers_of_one_axis():
    data = from_datasets(*[numbers(torch.tensor([0, 1, 1]))] * 3, classes="ab")
    (rows,) = data.scan("train")
    assert (rows.y.dtype, rows.y.tolist()) == (torch.int64, [0, 1, 1])


def test_classes_without_names_are_refused():
    with pytest.raises(ValueError, match="have no names"):
        from_datasets(*[numbers(torch.tensor([0]))] * 3)


def test_every_kind_of_label_has_its_reader():
    assert type(labels_of("value", ())) is ValueLabels
    assert labels_of("class", ["a", "b"]).names == ("a", "b")
    assert NoLabels().read(Example(Path("x"), "9")) == 0


def test_a_number_is_read_as_float_reads_it():
    assert [number(word) for word in ("3", "-.5", "2e-3")] == [3.0, -0.5, 2e-3]


def test_a_word_is_a_name_a_place_or_both(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert read_word("art=x=y").place == "x=y"
    assert (read_word(" art").name, read_word("art").place) == ("art", "")
    assert read_place(str(odd)).path == odd, "what is there is taken whole"
    assert read_place(f"n={odd}").name == "n"
    assert read_place("far/away").name == ""


def test_all_domains_that_words_name_are_found_at_once(tmp_path, photos, sketches):
    found = find_domains(photos, {"far": sketches}, [f"ink={sketches}"], f"goal={sketches}")
    assert found.own.name == photos.stem
    assert [one.name for one in found.trained[1:]] == ["ink"]
    assert (found.target.name, [one.name for one in found.others]) == ("goal", ["far"])
    assert find_domains(None, {"far": sketches}).trained == ()
    assert isinstance(found.own, Listing)
