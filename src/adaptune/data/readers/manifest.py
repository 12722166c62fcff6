"""Manifests: a CSV or Parquet table that names images, labels, domains and splits."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath

from adaptune.data.files import Passed, is_left
from adaptune.data.listing import Example, Listing
from adaptune.data.names import CONTROL, class_order, first_few, normal_name, on_disk, printable
from adaptune.data.readers.folder import SPLITS
from adaptune.data.readers.parquet import open_parquet

SUFFIXES = (".csv", ".parquet")
KNOWN = ("path", "label", "domain", "split")
LAYOUT = "path,label[,domain,split]"

TEXTS = "; where texts are to be read, give --backbone minilm, ngrams or hf:FOLDER"

TableRows = list[tuple[str, list[str]]]
"""The values of each row, and where it stands."""

RowReader = Callable[[Sequence[str]], Iterator[tuple[str, dict[str, str], int]]]
"""Gives rows of columns that are called so: where each stands, what is known, how many values."""


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
    columns, count, rows = _table(file)
    if masks and "label" not in columns:
        columns = ["label" if column == "mask" else column for column in columns]
    _check(file, columns, count, {"path"} if masks else {"path", "label"})
    labels = cache(normal_name)  # one text for each class, however many rows
    domains: dict[str, list[Example]] = {}
    passed: dict[str, Passed] = {}
    blank: dict[str, list[str]] = {}
    wrong = []
    for where, row, length in rows(columns):
        row = {"label": "", **row} if masks else row
        complaint = _complaint(row, length, len(columns), masks=masks)
        domain = normal_name(row.get("domain", "")) or name
        left = next(filter(is_left, PurePath(row.get("path", "")).parts), None)
        if complaint:
            wrong.append(f"{where}: {complaint}")
        elif left is not None:
            passed.setdefault(domain, Passed()).leave(left)
        else:
            domains.setdefault(domain, []).append(_example(folder or file.parent, row, labels))
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


def _example(folder: Path, row: Mapping[str, str], labels: Callable[[str], str]) -> Example:
    split = SPLITS.get(row.get("split", "").strip().casefold())
    path = folder / row["path"]
    plain = row["path"].isascii()  # asked of the row, since a path keeps the text that it gives
    return Example(path if plain else on_disk(path), labels(row["label"]), split)


def _notes(domain: str, passed: Passed, blank: Sequence[str]) -> tuple[str, ...]:
    said = f"{domain}: blanks around a label are no part of it: {first_few(blank)}"
    return (*passed.counts(domain), *([said] if blank else []))


def _check(file: Path, columns: list[str], count: int, needed: set[str]) -> None:
    """Refuse a table that is empty, lacks a column or has one twice."""
    if not count:
        raise ValueError(f"{file} has no rows: expected the columns {LAYOUT}")
    lacking = needed - set(columns)
    if lacking:
        raise ValueError(
            f"{file} lacks the column {' and '.join(sorted(lacking))}: expected {LAYOUT} and found "
            f"{printable(','.join(columns))}{TEXTS if 'text' in columns else ''}"
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


def _table(file: Path) -> tuple[list[str], int, RowReader]:
    """Open a table: its columns, how many rows there are, and what reads these."""
    if not file.is_file():
        raise ValueError(f"no manifest at {printable(file)}: expected a CSV or Parquet file")
    try:
        return _csv(file) if file.suffix.lower() == ".csv" else _parquet(file)
    except OSError as error:
        raise ValueError(
            f"{file} could not be opened ({error.strerror}): check the disk and your rights"
        ) from error


def _csv(file: Path) -> tuple[list[str], int, RowReader]:
    head, rows = read_csv(file)

    def read(columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str], int]]:
        for where, values in rows:
            pairs = zip(columns, values, strict=False)
            yield where, {key: value for key, value in pairs if key in KNOWN}, len(values)

    return head, len(rows), read


def _parquet(file: Path) -> tuple[list[str], int, RowReader]:
    table = open_parquet(file)

    def read(columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str], int]]:
        called = dict(zip(table.columns, columns, strict=True))
        wanted = {own for own, name in called.items() if name in KNOWN}
        names = [called[own] for own in table.columns if own in wanted]
        for number, values in enumerate(table.rows(wanted)):
            yield f"row {number}", dict(zip(names, values, strict=True)), len(columns)

    return table.columns, table.count, read


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
