"""What the tables of the pages are laid out with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|".join(["", *["---"] * len(head), ""]), *lines[1:]])


def percent(cell: Mapping[str, float], sign: str = "") -> str:
    """Say a mean and its interval."""
    said = [f"{cell[key]:{sign}.1f}" for key in ("mean", "low", "high")]
    return f"{said[0]} ({said[1]} to {said[2]})"
