"""Manifests: a CSV or Parquet table that names images, labels, domains and splits."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from adaptune.data.files import Passed, is_left
from adaptune.data.listing import Example, Listing
from adaptune.data.names import CONTROL, class_order, first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS

SUFFIXES = (".csv", ".parquet")
KNOWN = ("path", "label", "domain", "split")
LAYOUT = "path,label[,domain,split]"

TableRows = list[tuple[str, list[str]]]
"""The values of each row, and where it stands."""


def read_manifest(
    file: Path, name: str, *, masks: bool = False, folder: Path | None = None
) -> dict[str, Listing]:
    """List the images of a table ``path,label[,domain,split]``, one listing a domain.

    Paths are relative to the table, or to a ``folder``. Without a domain column all rows are one
    domain, ``name``. Domains come in the order in which the table first names them. Blanks around
    labels are no part of them. Rows that name what a program left behind are counted in a note.
    Labels that are ``masks`` may stand in a column of that name, ``mask``, and be left out.

    Raises:
        ValueError: If the table is missing or damaged, lacks a column, holds no row, has rows of
            another length than its header, leaves out a path or a label, or names a split that is
            none of train, val and test. All bad rows are counted and the first few named.
    """
    columns, rows = _table(file)
    if masks and "label" not in columns:
        columns = ["label" if column == "mask" else column for column in columns]
    _check(file, columns, rows, {"path"} if masks else {"path", "label"})
    domains: dict[str, list[Example]] = {}
    passed: dict[str, Passed] = {}
    blank: dict[str, list[str]] = {}
    wrong = []
    for where, values in rows:
        row = {key: value for key, value in zip(columns, values, strict=False) if key in KNOWN}
        row = {"label": "", **row} if masks else row
        complaint = _complaint(row, len(values), len(columns), masks=masks)
        domain = normal_name(row.get("domain", "")) or name
        left = next(filter(is_left, PurePath(row.get("path", "")).parts), None)
        if complaint:
            wrong.append(f"{where}: {complaint}")
        elif left is not None:
            passed.setdefault(domain, Passed()).leave(left)
        else:
            domains.setdefault(domain, []).append(_example(folder or file.parent, row))
            if row["label"] != row["label"].strip():
                blank.setdefault(domain, []).append(where)
    if wrong:
        raise ValueError(f"{file}, {first_few(wrong, '; ')}")
    if not domains:
        said = (note for domain, one in passed.items() for note in one.counts(domain))
        raise ValueError(f"{file} names no image: {'; '.join(said)}")
    return {
        domain: Listing(
            domain,
            tuple(examples),
            class_order(example.label for example in examples),
            _notes(domain, passed.get(domain, Passed()), blank.get(domain, [])),
        )
        for domain, examples in domains.items()
    }


def _example(folder: Path, row: Mapping[str, str]) -> Example:
    split = SPLITS.get(row.get("split", "").strip().casefold())
    return Example(on_disk(folder / row["path"]), normal_name(row["label"]), split)


def _notes(domain: str, passed: Passed, blank: Sequence[str]) -> tuple[str, ...]:
    said = f"{domain}: blanks around a label are no part of it: {first_few(blank)}"
    return (*passed.counts(domain), *([said] if blank else []))


def _check(file: Path, columns: list[str], rows: TableRows, needed: set[str]) -> None:
    """Refuse a table that is empty, lacks a column or has one twice."""
    if not rows:
        raise ValueError(f"{file} has no rows: expected the columns {LAYOUT}")
    lacking = needed - set(columns)
    if lacking:
        raise ValueError(
            f"{file} lacks the column {' and '.join(sorted(lacking))}: expected {LAYOUT} and found "
            f"{printable(','.join(columns))}"
        )
    twice = [column for column in KNOWN if columns.count(column) > 1]
    if twice:
        raise ValueError(f"{file} has the column {twice[0]} twice: keep one of them")


def _complaint(row: Mapping[str, str], values: int, columns: int, *, masks: bool) -> str:
    """Say what is wrong with a row, if anything is."""
    if values != columns:
        return f"has {values} values where the header has {columns}: quote values with commas"
    for column, value in row.items():
        if CONTROL.search(value):
            return f"{column} holds a line break or another control character: is a quote missing?"
    if not (row["path"] and (masks or row["label"].strip())):
        return "path is empty" if masks else "path or label is empty"
    said = row.get("split", "")
    if said and said.strip().casefold() not in SPLITS:
        return f"split {said!r} is none of train, val, test"
    return ""


def _table(file: Path) -> tuple[list[str], TableRows]:
    """Read a table as columns and rows of strings; an absent value is empty."""
    if not file.is_file():
        raise ValueError(f"no manifest at {printable(file)}: expected a CSV or Parquet file")
    try:
        return read_csv(file) if file.suffix.lower() == ".csv" else _parquet(file)
    except OSError as error:
        raise ValueError(
            f"{file} could not be opened ({error.strerror}): check the disk and your rights"
        ) from error


def read_csv(file: Path) -> tuple[list[str], TableRows]:
    """Read a CSV as columns and rows of strings.

    Raises:
        ValueError: If it is no UTF-8 text, or a line's quotes or lengths are those of no CSV.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            columns = next(reader, [])
            rows = [(f"line {reader.line_num}", values) for values in reader if values]
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 text: save it as CSV in UTF-8") from error
        except csv.Error as error:
            raise ValueError(
                f"{file}, line {reader.line_num}: quotes or lengths are not those of a CSV "
                f"({error}): mend the line, or write the table again"
            ) from error
    if any("\0" in column for column in columns):
        raise ValueError(f"{file} is not UTF-8 text: save it as CSV in UTF-8")
    return columns, rows


def _parquet(file: Path) -> tuple[list[str], TableRows]:
    try:
        import pandas

        table = pandas.read_parquet(file, engine="pyarrow", page_checksum_verification=True)
        filled = table.astype(object).where(table.notna(), "")
    except ImportError as error:
        raise ValueError(
            "Parquet manifests need pandas and pyarrow: pip install 'adaptune[manifest]'"
        ) from error
    except Exception as error:  # damaged bytes make it raise whatever it stumbles over
        raise ValueError(
            f"{file} could not be read as Parquet, being cut off, damaged or of another kind: "
            "write the table again"
        ) from error
    records = enumerate(filled.itertuples(index=False, name=None))
    rows = [(f"row {number}", list(map(_text, values))) for number, values in records]
    return list(map(str, filled.columns)), rows


def _text(value: Any) -> str:
    """Write a value of a Parquet table as a CSV of the same table would have it.

    Whole numbers become fractions where a column has gaps, and are whole again here; text without
    an encoding is UTF-8, and what is none of it stays visible.

    >>> _text(1.0), _text(1.5), _text(b"cat"), _text(True)
    ('1', '1.5', 'cat', 'True')
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
