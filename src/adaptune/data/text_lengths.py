"""How long texts are in the tokens of a network, and how many lose their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.text import TextIds
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

    def described(self, name: str) -> str:
        """Say in a sentence how long they are."""
        return (
            f"{name}: texts have {self.at(0.5)} tokens in the middle, {self.at(0.95)} or fewer in "
            f"95% of them, {self.tokens[-1]} at most; {self.cut} of {len(self.tokens)} have more "
            f"than {self.most} and lose their end"
        )


def measure_lengths(rows: RowSource, most: int | None = None) -> TextLengths | None:
    """Count the tokens of ``most`` texts of a set, spread evenly over it; by default of all.

    None where it is no set of texts.
    """
    if not isinstance(rows, FileRows) or not isinstance(rows.input, TextIds):
        return None
    step = max(1, len(rows) // most) if most else 1
    texts = [one.text for one in rows.examples[::step] if one.text is not None]
    count, length = rows.input.counter(), rows.input.look.length
    found = sorted(map(count, texts))
    return TextLengths(found, length) if found else None


def cut_notes(rows: RowSource) -> list[str]:
    """Say how many texts of those that are trained on lose their end."""
    found = measure_lengths(rows, LOOKED_AT)
    if found is None or not found.cut:
        return []
    return [
        f"{found.cut} of {len(found.tokens)} training texts that were looked at have more than "
        f"{found.most} tokens and lose their end: give a larger --text-length if that matters"
    ]
