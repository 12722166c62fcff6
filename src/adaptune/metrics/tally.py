"""Tallies: what a set comes to, told batch by batch, so that nothing keeps all outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adaptune.results.score import Scores
from adaptune.types import Outputs


class Tally(Protocol):
    """Counts a set batch by batch, in any order; its memory does not grow with rows times outputs.

    Tensors stay on the device that they come on, and adding waits for none.
    """

    def add(self, outputs: Outputs) -> None:
        """Count one batch; ``outputs.index`` is on the CPU."""
        ...

    def merge(self) -> None:
        """Count what other processes counted too; all must call this, and hold the same after."""
        ...


@dataclass(frozen=True)
class Mistake:
    """One row that a network was surely wrong about: the truth and its answer, as numbers.

    Of a text whose words have answers it is a word, whose number is the ``place``.
    """

    row: int
    truth: float
    answer: float
    confidence: float
    place: int = -1


class ScoreTally(Tally, Protocol):
    """A tally of what counts in a task."""

    def scores(self) -> Scores:
        """Score the set.

        Raises:
            ValueError: If it had no row.
        """
        ...

    def mistakes(self) -> list[Mistake]:
        """Give the rows that were most surely wrong, the surest first; only a few are kept."""
        ...
