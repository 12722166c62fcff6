"""Texts are listed from tables and folders; what is odd about them is said and stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from texts import rows, table, tokenizer

from adaptune.data import Shares, open_domains
from adaptune.data.domains import Loading
from adaptune.data.duplicates import find_duplicates
from adaptune.data.inputs import input_of
from adaptune.data.inputs.text import TextIds, hashed
from adaptune.data.listing import Example
from adaptune.data.readers.texts import TextSource
from adaptune.data.sample import UnreadableError, WrongItemError
from adaptune.data.text_lengths import cut_notes, measure_lengths
from adaptune.data.texts import LONGEST_TEXT, held
from adaptune.networks.inputs import TextInput

READ = TextSource()
WORDS = TextInput(12, tokenizer(), 64)


def written(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


def told(file: Path, **options: object) -> list[tuple[str, str]]:
    (one,) = TextSource(**options)(file, "own")
    return [(example.text, example.label) for example in one.examples]


def test_tables_of_every_kind_hold_the_same(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    found = [("a, b", "1"), ('says "no"\nand goes', "2"), ("ünï\u2028code", "1")]
    csv_file = written(
        tmp_path / "a.csv", 'text,label\n"a, b",1\n"says ""no""\nand goes",2\nünï\u2028code,1\n'
    )
    lines = "".join(json.dumps({"label": int(k), "text": t}) + "\n" for t, k in found)
    json_file = written(tmp_path / "a.jsonl", lines + "\n")
    columns = {"text": [t for t, _ in found], "label": [int(k) for _, k in found]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    for file in (csv_file, json_file, tmp_path / "a.parquet"):
        assert told(file) == found
    (listing,) = READ(csv_file, "own")
    assert listing.classes == ("1", "2")
    assert [one.path.name for one in listing.examples] == ["line 2", "line 4", "line 5"]


def test_columns_have_names_and_a_table_may_hold_domains_and_splits(tmp_path):
    file = written(
        tmp_path / "a.csv",
        "body,stars,domain,split\nx,1,books,train\ny,2,dvd,test\nz,2,books,val\n",
    )
    books, dvd = TextSource("body", "stars")(file, "a")
    assert (books.name, [one.split for one in books.examples]) == ("books", ["train", "val"])
    assert [(one.text, one.label) for one in dvd.examples] == [("y", "2")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text\na\n", "lacks the column label"),
        ("path,label\na,b\n", "lacks the column text: expected text,label"),
        ("text,label,text\na,b,c\n", "has the column text twice"),
        ("text,label\n", "has no rows"),
        ("text,label\na\n", "line 2: has 1 values where the header has 2"),
        ("text,label\na,\n", "line 2: its label is empty"),
        ('text,label\na,"b\nc"\n', "label holds a line break"),
        ('text,label\n"a,b\n', "are not those of a CSV"),
        ("text,label,split\na,b,maybe\n", "split 'maybe' is none of train, val, test"),
        ("text,label\na\0,b\n", "it holds zero bytes"),
    ],
)
def test_a_damaged_table_is_refused_with_these_words(tmp_path, text, said):
    with pytest.raises(ValueError, match=".") as raised:
        READ(written(tmp_path / "a.csv", text), "a")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: is no JSON"),
        ("[1]", "line 2: is no object"),
        ('{"text": "a"}', "line 2: lacks label"),
        ('{"text": ["a"], "label": "b"}', "line 2: text is no text"),
    ],
)
def test_a_damaged_line_of_json_is_named(tmp_path, line, said):
    file = written(tmp_path / "a.jsonl", f'{{"text": "a", "label": "b"}}\n{line}\n')
    with pytest.raises(ValueError, match=".") as raised:
        READ(file, "a")
    assert said in str(raised.value)


def test_folders_of_text_files_have_classes_like_those_of_images(tmp_path):
    for name in ("pos", "neg"):
        (tmp_path / name).mkdir()
        for number in (1, 2):
            written(tmp_path / name / f"{number}.txt", f" {name} {number}\n")
    written(tmp_path / "pos" / "notes.pdf", "no")
    (listing,) = READ(tmp_path, "own")
    assert listing.classes == ("neg", "pos")
    assert [one.text for one in listing.examples] == ["neg 1", "neg 2", "pos 1", "pos 2"]
    assert len({one.subject for one in listing.examples}) == 4, "names of files are no subjects"
    assert any("1 files that are no" in note for note in listing.notes)
    (flat,) = READ.without_labels()(tmp_path / "pos", "t")
    assert (flat.classes, [one.label for one in flat.examples]) == ((), ["", ""])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_known_by_their_mark_or_said(tmp_path, encoding):
    (listing,) = READ(written(tmp_path / "a.csv", "text,label\ncafé,b\nb,c\n", encoding), "a")
    assert listing.examples[0].text == "café"
    assert any("Latin-1" in note for note in listing.notes) == (encoding == "latin-1")


def test_what_is_odd_about_texts_is_counted_and_stops_nothing(tmp_path):
    long = "x" * (LONGEST_TEXT + 1)
    file = written(
        tmp_path / "a.csv",
        f"text,label,split\n,b,train\nsame,b,train\nSAME ,b,test\nsame,c,train\n{long},c,train\n",
    )
    (listing,) = READ(file, "a")
    assert listing.notes == (
        "a: 1 texts are empty",
        "a: 1 texts were cut after 100000 characters",
        "a: 1 texts stand under several labels",
        "a: 2 texts repeat another, 1 of them in several splits, which makes scores too high",
    )
    data = open_domains(file, texts=READ)
    (group,) = find_duplicates({"train": data.sets["train"], "test": data.sets["test"]})
    assert {place.split for place in group} == {"train", "test"}


def test_a_text_stays_in_one_split_and_what_was_trained_on_is_not_tested_elsewhere(tmp_path):
    own = table(tmp_path / "own.csv", 60)
    twice = own.read_text() + own.read_text().split("\n", 1)[1]
    own.write_text(twice)
    other = table(tmp_path / "other.csv", 30, seed=0)
    data = open_domains(own, {"other": other}, texts=READ, shares=Shares(0.2, 0.3))
    seen = {name: {one.subject for one in rows.examples} for name, rows in data.sets.items()}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["val"]
    left = {one.subject for one in data.ood["other"].examples}
    assert left
    assert not left & (seen["train"] | seen["val"])
    assert any("left out" in note for note in data.notes)


def test_ids_are_padded_with_zeros_and_cut_at_the_length():
    read = input_of(WORDS)
    short, long = read.given("a film"), read.given("film " * 40)
    assert (short.dtype, tuple(short.shape)) == (torch.int64, (12,))
    assert int((short != 0).sum()) == 4
    assert int((long != 0).sum()) == 12
    assert long[-1] == 3, "the tokenizer's own last token stays"
    assert torch.equal(read.given(short), short)
    with pytest.raises(WrongItemError, match="should be text, or ids"):
        read.given(1.5)


def test_a_padding_of_another_id_is_traded_with_zero():
    look = TextInput(12, tokenizer(first="[CLS]"), 64, pad=1)
    ids = input_of(look).given("a film")
    assert ids[0] == 1, "the first token has the id 0, which here is padding"
    assert ids[4:].tolist() == [0] * 8


def test_hashed_words_tell_texts_apart_by_words_and_their_order():
    assert hashed("a b", 999, 9) != hashed("b a", 999, 9)
    ids = [one for word in range(500) for one in hashed(str(word), 50, 9)]
    assert (min(ids), max(ids)) == (1, 49)
    assert input_of(TextInput()).given("").sum() == 0


@pytest.mark.parametrize(
    ("content", "vocabulary", "said"),
    [
        ("{", 64, "its tokenizer is damaged"),
        ('{"model": {"type": "BPE"}}', 64, "its tokenizer is damaged"),
        (tokenizer(), 10, "knows the id"),
    ],
)
def test_a_tokenizer_that_is_none_is_refused_before_a_text_is_read(content, vocabulary, said):
    with pytest.raises(ValueError, match=said):
        TextIds(TextInput(12, content, vocabulary))


@pytest.mark.parametrize("length", [0, 7, 10**6])
def test_a_length_out_of_bounds_is_refused(length):
    with pytest.raises(ValueError, match="--text-length must be"):
        TextInput(length)


def test_a_file_that_is_gone_is_left_out_like_an_image(tmp_path):
    example = Example(tmp_path / "a.txt", "b")
    with pytest.raises(UnreadableError, match="there is no such file"):
        TextIds(TextInput()).fixed(example)


def test_how_many_texts_lose_their_end_is_counted(tmp_path):
    data = open_domains(table(tmp_path / "a.csv", 40), texts=READ)
    data = data.with_input(TextInput(8, tokenizer(), 64))
    found = measure_lengths(data.sets["train"])
    assert (found.cut, found.tokens[-1]) == (len(data.sets["train"]), 10)
    assert "lose their end" in cut_notes(data.augmented)[0]
    assert cut_notes(data.with_input(TextInput(12, tokenizer(), 64)).augmented) == []


def test_ids_are_the_same_for_any_number_of_workers(tmp_path):
    file = table(tmp_path / "a.csv", 40)
    one, two = (
        torch.cat(
            [
                rows.x
                for rows in open_domains(file, texts=READ, loading=Loading(8, workers=workers))
                .with_input(WORDS)
                .scan("train")
            ]
        )
        for workers in (0, 2)
    )
    assert torch.equal(one, two)


def test_texts_are_held_as_they_are_and_not_their_ids(tmp_path):
    data = open_domains(table(tmp_path / "a.csv", 40), texts=READ).with_input(WORDS)
    held_texts = [one.text for rows in data.sets.values() for one in rows.examples]
    assert sorted(held_texts) == sorted(text for text, _ in rows(40, "movie"))
    assert data.sets["train"].store.handed_over() == []


def test_halves_of_characters_are_replaced():
    assert held("a\ud800") == "a\ufffd"
    assert hashed("a\ud800", 99, 9)
