"""Tables that hold texts, row by row: CSV, Parquet, and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from adaptune.data.names import CONTROL, printable
from adaptune.data.readers.folder import SPLITS
from adaptune.data.readers.parquet import open_parquet
from adaptune.data.sample import UnreadableError
from adaptune.data.texts import read_decoded

SUFFIXES = (".csv", ".parquet", ".jsonl", ".ndjson")

FIELD = 2**27
"""Characters of a value of a CSV, above the reader's own limit of 2**17."""


@dataclass(frozen=True)
class TextRow:
    """A row: where it stands, its values by column, and what is wrong with it."""

    where: str
    values: dict[str, str]
    problem: str = ""


Table = tuple[list[str], Iterator[TextRow], str]
"""The names of the columns, the rows, and the encoding."""


def row_problem(row: TextRow, plain: Iterable[str]) -> str:
    """Say what is wrong with a row, if anything is; ``plain`` columns hold one line.

    >>> row_problem(TextRow("line 2", {"split": "later"}), ["split"])
    "split 'later' is none of train, val, test"
    """
    if row.problem:
        return row.problem
    for column in plain:
        if CONTROL.search(row.values.get(column, "")):
            return f"{column} holds a line break or a control character: is a quote missing?"
    said = row.values.get("split", "")
    if said and said.strip().casefold() not in SPLITS:
        return f"split {said!r} is none of train, val, test"
    return ""


def read_table(file: Path) -> Table:
    """Open a table of any kind; rows are given one by one.

    Raises:
        ValueError: If it is missing, damaged, or no text.
    """
    if not file.is_file():
        raise ValueError(f"no table at {printable(file)}: expected a {', '.join(SUFFIXES)} file")
    try:
        if file.suffix.lower() == ".parquet":
            return _parquet(file)
        text, encoding = read_decoded(file)
    except UnreadableError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    except OSError as error:
        raise ValueError(f"{file} could not be opened ({error.strerror})") from error
    columns, rows = _csv(file, text) if file.suffix.lower() == ".csv" else _json_lines(text)
    return columns, rows, encoding


def _csv(file: Path, text: str) -> tuple[list[str], Iterator[TextRow]]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    with _explaining(file, reader):
        columns = [one.strip() for one in next(reader, [])]

    def rows() -> Iterator[TextRow]:
        while True:
            with _explaining(file, reader):
                values = next(reader, None)
            if values is None:
                return
            if not values:
                continue
            where = f"line {reader.line_num}"
            problem = ""
            if len(values) != len(columns):
                problem = (
                    f"has {len(values)} values where the header has {len(columns)}: quote values "
                    "with commas"
                )
            yield TextRow(where, dict(zip(columns, values, strict=False)), problem)

    return columns, rows()


@contextmanager
def _explaining(file: Path, reader: Any) -> Iterator[None]:
    """Let values be long, and say in words where the quotes are those of no CSV."""
    before = csv.field_size_limit(FIELD)
    try:
        yield
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {reader.line_num}: quotes or lengths are not those of a CSV ({error}): "
            "mend the line, or write the table again"
        ) from error
    finally:
        csv.field_size_limit(before)


def _json_lines(text: str) -> tuple[list[str], Iterator[TextRow]]:
    # Not splitlines: texts in JSON may hold characters that it takes for ends of lines.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    first = _parsed(lines[0][1]) if lines else {}
    columns = list(first) if isinstance(first, dict) else []

    def rows() -> Iterator[TextRow]:
        for number, line in lines:
            where, said = f"line {number}", _parsed(line)
            if not isinstance(said, dict):
                yield TextRow(where, {}, f"is {said}, and should be an object such as {{...}}")
                continue
            lacking = [one for one in columns if one not in said]
            odd = [key for key, value in said.items() if key in columns and _is_odd(value)]
            problem = f"lacks {lacking[0]}" if lacking else f"{odd[0]} is no text" if odd else ""
            yield TextRow(where, {k: _written(v) for k, v in said.items() if k in columns}, problem)

    return columns, rows()


def _parsed(line: str) -> Any:
    """Parse a line of JSON; a text that says so where it is none."""
    try:
        said = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return "no JSON"
    return said if isinstance(said, dict) else "no object"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of pairs; two of one name are those of no table."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _is_odd(value: Any) -> bool:
    return not isinstance(value, str | int | float | None)


def _written(value: Any) -> str:
    """Write a value as a CSV of the same table would have it.

    >>> _written(None), _written(1.0), _written(True), _written("a")
    ('', '1', 'True', 'a')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _parquet(file: Path) -> Table:
    table = open_parquet(file)

    def rows() -> Iterator[TextRow]:
        for number, values in enumerate(table.rows(table.columns)):
            yield TextRow(f"row {number}", dict(zip(table.columns, values, strict=True)))

    return table.columns, rows(), "utf-8"
