"""Manifests: a CSV or Parquet table that names images, labels, domains and splits."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from adaptune.data.folder import SPLITS
from adaptune.data.listing import Example, Listing

SUFFIXES = (".csv", ".parquet")


def read_manifest(file: Path, name: str) -> dict[str, Listing]:
    """List the images of a table ``path,label[,domain,split]``, one listing a domain.

    Paths are relative to the table. Without a domain column all rows are one domain, ``name``.
    Domains come in the order in which the table first names them.

    Raises:
        ValueError: If the table is missing, lacks a column, holds no row, leaves out a path or a
            label, or names a split that is none of train, val and test.
    """
    if not file.is_file():
        raise ValueError(f"no manifest at {file}")
    rows = list(_rows(file))
    if not rows:
        raise ValueError(f"{file} has no rows: expected the columns path,label[,domain,split]")
    columns = rows[0][1]
    lacking = {"path", "label"} - set(columns)
    if lacking:
        raise ValueError(
            f"{file} lacks the column {' and '.join(sorted(lacking))}: expected "
            f"path,label[,domain,split] and found {','.join(columns)}"
        )
    domains: dict[str, list[Example]] = {}
    for where, row in rows:
        if not (row["path"] and row["label"]):
            raise ValueError(f"{file}, {where}: path or label is empty")
        said = row.get("split") or ""
        split = SPLITS.get(said.strip().casefold())
        if said and split is None:
            raise ValueError(f"{file}, {where}: split {said!r} is none of train, val, test")
        example = Example(file.parent / row["path"], row["label"], split)
        domains.setdefault(row.get("domain") or name, []).append(example)
    return {
        domain: Listing(domain, tuple(examples), tuple(sorted({e.label for e in examples})))
        for domain, examples in domains.items()
    }


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a table as rows of strings, each with its place; an absent value is empty."""
    if file.suffix.lower() == ".csv":
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            for row in reader:
                known = {key: value or "" for key, value in row.items() if key is not None}
                yield f"line {reader.line_num}", known
        return
    try:
        import pandas
    except ImportError as error:
        raise ValueError(
            "Parquet manifests need pandas: pip install 'adaptune[manifest]'"
        ) from error
    table = pandas.read_parquet(file)
    records = table.astype(object).where(table.notna(), "").to_dict("records")
    for number, row in enumerate(records):
        yield f"row {number}", {str(key): str(value) for key, value in row.items()}
