"""What people and machines do to tables of images, and the exact words about each."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from adaptune.data.inputs.image import MISSING, SPECIAL
from adaptune.data.listing import Shares
from adaptune.data.opening import open_domains
from adaptune.data.readers.manifest import read_manifest

HEAD = "path,label,domain,split\n"
GOOD = "1.png,cat,photo,train\n"
TABLES = {
    "Latin letters": (
        (HEAD + "café.png,cat,,\n").encode("latin-1"),
        " is not UTF-8 text: save it as CSV in UTF-8",
    ),
    "sixteen bits a letter": (
        (HEAD + GOOD).encode("utf-16-le"),
        " is not UTF-8 text: save it as CSV in UTF-8",
    ),
    "an image": (
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        " is not UTF-8 text: save it as CSV in UTF-8",
    ),
    "a comma too many": (
        HEAD + GOOD + "2, 3.png,cat,photo,train\n",
        ", line 3: has 5 values where the header has 4: quote values with commas",
    ),
    "a row cut off": (
        HEAD + GOOD + "2.png,cat",
        ", line 3: has 2 values where the header has 4: quote values with commas",
    ),
    "a zero byte": (
        HEAD + GOOD + "2.png,c\0at,photo,train\n",
        ", line 3: label holds a line break or another control character: is a quote missing?",
    ),
    "a quote that swallows rows": (
        HEAD + '2.png,"cat,photo,train\n3.png,dog,photo,train\n4.png,"emu",,\n',
        ", line 4: quotes or lengths are not those of a CSV (',' expected after '\"'): mend the "
        "line, or write the table again",
    ),
    "a quote that never ends": (
        HEAD + GOOD + '2.png,"cat,photo,train\n',
        ", line 3: quotes or lengths are not those of a CSV (unexpected end of data): mend the "
        "line, or write the table again",
    ),
    "a line break in a name": (
        HEAD + '"2\n.png",cat,photo,train\n',
        ", line 3: path holds a line break or another control character: is a quote missing?",
    ),
    "a field without end": (
        HEAD + "x" * 200_000 + ",cat,,\n",
        ", line 2: quotes or lengths are not those of a CSV (field larger than field limit "
        "(131072)): mend the line, or write the table again",
    ),
    "a column twice": (
        "path,label,label\n1.png,cat,dog\n",
        " has the column label twice: keep one of them",
    ),
    "semicolons": (
        "path;label\n1.png;cat\n",
        " lacks the column label and path: expected path,label[,domain,split] and found path;label",
    ),
    "an unknown split": (
        HEAD + "1.png,cat,photo,holdout\n",
        ", line 2: split 'holdout' is none of train, val, test",
    ),
    "bad rows": (
        HEAD + ",cat,,\n" + GOOD + "2.png,,,\n3.png\n",
        ", line 2: path or label is empty; line 4: path or label is empty; line 5: has 1 values "
        "where the header has 4: quote values with commas",
    ),
    "very many bad rows": (
        "path,label\n" + ",\n" * 9,
        ", line 2: path or label is empty; line 3: path or label is empty; line 4: path or label "
        "is empty; line 5: path or label is empty; line 6: path or label is empty and 4 more",
    ),
    "nothing": ("", " has no rows: expected the columns path,label[,domain,split]"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_damaged_is_refused_with_these_words(tmp_path, name):
    content, said = TABLES[name]
    file = tmp_path / "all.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=".") as raised:
        read_manifest(file, "all")
    assert str(raised.value) == f"{file}{said}"


MAKERS = [lambda path: None, Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_that_is_no_file_is_named_and_never_waited_for(tmp_path, make, ending):
    file = tmp_path / f"all.{ending}"
    make(file)
    with pytest.raises(ValueError, match=".") as raised:
        read_manifest(file, "all")
    assert str(raised.value) == f"no manifest at {file}: expected a CSV or Parquet file"


def test_a_table_that_the_system_refuses_is_named_with_its_reason(tmp_path, monkeypatch):
    file = tmp_path / "all.csv"
    file.write_text(HEAD + GOOD)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=".") as raised:
        read_manifest(file, "all")
    assert str(raised.value) == (
        f"{file} could not be opened (Permission denied): check the disk and your rights"
    )


def parquet(**columns) -> bytes:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    raw = io.BytesIO()
    pandas.DataFrame(columns).to_parquet(raw)
    return raw.getvalue()


@pytest.mark.parametrize("spoil", [lambda raw: b"", lambda raw: raw[:-9], lambda raw: b"a,b\n1,2"])
def test_a_parquet_file_that_is_damaged_is_refused_with_these_words(tmp_path, spoil):
    file = tmp_path / "all.parquet"
    file.write_bytes(spoil(parquet(path=["1.png"], label=["cat"])))
    with pytest.raises(ValueError, match=".") as raised:
        read_manifest(file, "all")
    assert str(raised.value) == (
        f"{file} could not be read as Parquet, being cut off, damaged or of another kind: write "
        "the table again"
    )


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1.0, 2.0, 10.0], ("1", "2", "10")),
        ([0.5, 2.0, 1e20], ("0.5", "100000000000000000000", "2")),
        ([b"cat", "caf\u00e9".encode(), b"cat "], ("caf\u00e9", "cat")),
        ([True, False, True], ("False", "True")),
        ([3, 10, -1], ("-1", "3", "10")),
    ],
)
def test_labels_of_parquet_are_those_of_the_same_table_as_text(tmp_path, values, labels):
    file = tmp_path / "all.parquet"
    file.write_bytes(parquet(path=[f"{n}.png" for n in range(3)], label=values))
    assert read_manifest(file, "x")["x"].classes == labels


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, None, 2.0], "row 1: path or label is empty"),
        (["cat", "  ", "dog"], "row 1: path or label is empty"),
        ([b"cat", b"caf\xe9", b"dog"], "row 1: label holds a line break or another control"),
    ],
)
def test_rows_of_parquet_without_a_label_are_refused_by_number(tmp_path, values, said):
    file = tmp_path / "all.parquet"
    file.write_bytes(parquet(path=[f"{n}.png" for n in range(3)], label=values))
    with pytest.raises(ValueError, match=said):
        read_manifest(file, "x")


def test_columns_that_are_not_known_may_hold_anything(tmp_path):
    (tmp_path / "all.csv").write_text('path,label,caption\n1.png,cat,"a\ncat"\n')
    (tmp_path / "all.parquet").write_bytes(parquet(path=["1.png"], label=["cat"], raw=[b"\0"]))
    for ending in ("csv", "parquet"):
        listing = read_manifest(tmp_path / f"all.{ending}", "x")["x"]
        assert [example.label for example in listing.examples] == ["cat"]


def test_a_table_may_name_anything_and_what_is_no_image_is_counted(own_photos, tmp_path):
    rows = [f"{path},{path.parent.name},train" for path in own_photos.glob("*/*.png")]
    os.mkfifo(tmp_path / "pipe.png")
    bad = {"/dev/zero": SPECIAL, "gone.png": MISSING, "pipe.png": SPECIAL, "photo": SPECIAL}
    bad |= {"x" * 300: "File name too long", "../" * 3 + "gone.png": MISSING}
    lines = [*rows, *(f"{path},dots,train" for path in bad)]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *lines]))
    data = open_domains(tmp_path / "all.csv", shares=Shares(0, 0))
    read = [int(row) for rows in data.scan("train") for row in rows.index]
    assert read == list(range(len(rows)))
    assert list(data.problems) == [str(tmp_path / path) for path in bad]
    for said, expected in zip(data.problems.values(), bad.values(), strict=True):
        assert expected in said


def test_classes_that_are_not_asked_for_are_counted_with_these_words(photos):
    data = open_domains(photos, classes=["stripes"])
    assert data.notes == (
        "classes that are not among those to train on were left out: dots (20), rings (20)",
    )
