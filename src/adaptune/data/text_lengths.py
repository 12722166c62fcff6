"""How long texts are in the tokens of a network, and how many lose their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.text import TextIds
from adaptune.data.labels.texts import TextLabels
from adaptune.data.loading import RowSource

LOOKED_AT = 1000
"""Texts of a set that a run counts the tokens of; `adaptune doctor` counts all."""


@dataclass(frozen=True)
class TextLengths:
    """The tokens of each text of a set, sorted, and how many a network reads at most."""

    tokens: Sequence[int]
    most: int

    @property
    def cut(self) -> int:
        """How many texts lose their end."""
        return sum(one > self.most for one in self.tokens)

    def at(self, share: float) -> int:
        """Give the length that a share of the texts does not exceed.

        >>> TextLengths([1, 2, 3, 9], 4).at(0.5), TextLengths([1, 2, 3, 9], 4).cut
        (2, 1)
        """
        return self.tokens[max(0, round(share * len(self.tokens)) - 1)]

    def described(self, name: str, what: str = "texts") -> str:
        """Say in a sentence how long they are."""
        return (
            f"{name}: {what} have {self.at(0.5)} tokens in the middle, {self.at(0.95)} or fewer in "
            f"95% of them, {self.tokens[-1]} at most; {self.cut} of {len(self.tokens)} have more "
            f"than {self.most} and lose their end"
        )


def measure_lengths(
    rows: RowSource, most: int | None = None, *, partners: bool = False
) -> TextLengths | None:
    """Count the tokens of ``most`` texts of a set, spread evenly over it; by default of all.

    They are those of ``partners``, if that is asked for. None where there are none.
    """
    if not isinstance(rows, FileRows):
        return None
    labels = rows.meaning.ids if isinstance(rows.meaning, TextLabels) else None
    reader = labels if partners else rows.input
    if not isinstance(reader, TextIds):
        return None
    step = max(1, len(rows) // most) if most else 1
    texts = [one.label if partners else one.text for one in rows.examples[::step]]
    count, length = reader.counter(), reader.look.length
    found = sorted(count(one) for one in texts if one is not None)
    return TextLengths(found, length) if found else None


def cut_notes(rows: RowSource) -> list[str]:
    """Say how many texts of those that are trained on lose their end."""
    sides = {
        "training texts": measure_lengths(rows, LOOKED_AT),
        "partners": measure_lengths(rows, LOOKED_AT, partners=True),
    }
    return [
        f"{found.cut} of {len(found.tokens)} {what} that were looked at have more than "
        f"{found.most} tokens and lose their end: give a larger --text-length if that matters"
        for what, found in sides.items()
        if found is not None and found.cut
    ]
