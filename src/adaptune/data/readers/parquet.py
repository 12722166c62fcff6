"""Parquet tables as rows of text, a piece of the file in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE = 2**15
"""Rows that are in memory at once."""


@dataclass(frozen=True)
class ParquetTable:
    """A table that was opened: the names of all its columns, and how many rows it has."""

    file: Path
    opened: Any
    columns: list[str]
    count: int

    def rows(self, wanted: Collection[str]) -> Iterator[list[str]]:
        """Give the values of some columns, row by row, in the order that the table has them.

        An absent value is empty.

        Raises:
            ValueError: If the file is damaged.
        """
        chosen = [column for column in self.columns if column in wanted]
        pieces = self.opened.iter_batches(PIECE, columns=chosen, use_threads=False)
        while True:
            try:
                piece = next(pieces, None)
                if piece is None:
                    return
                by_column = [piece.column(column).to_pylist() for column in chosen]
            except Exception as error:  # damaged bytes make it raise whatever it stumbles over
                raise ValueError(_damaged(self.file)) from error
            for values in zip(*by_column, strict=True):
                yield [_text(value) for value in values]


def open_parquet(file: Path) -> ParquetTable:
    """Open a table; its page checksums are held against its pages, where it has such.

    Raises:
        ValueError: If the package is missing, or the file is none or damaged.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "Parquet manifests need pyarrow: pip install 'adaptune[manifest]'"
        ) from error
    try:
        opened = parquet.ParquetFile(file, page_checksum_verification=True)
        return ParquetTable(file, opened, opened.schema_arrow.names, opened.metadata.num_rows)
    except OSError as error:
        if error.strerror:
            raise
        raise ValueError(_damaged(file)) from error
    except Exception as error:  # damaged bytes make it raise whatever it stumbles over
        raise ValueError(_damaged(file)) from error


def _damaged(file: Path) -> str:
    return (
        f"{file} could not be read as Parquet, being cut off, damaged or of another kind: "
        "write the table again"
    )


def _text(value: Any) -> str:
    """Write a value of a Parquet table as a CSV of the same table would have it.

    Whole numbers become fractions where a column has gaps, and are whole again here; text without
    an encoding is UTF-8, and what is none of it stays visible.

    >>> _text(1.0), _text(1.5), _text(b"cat"), _text(True), _text(None), _text(float("nan"))
    ('1', '1.5', 'cat', 'True', '', '')
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
