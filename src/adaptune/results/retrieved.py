"""What pairs came to besides the score that ranks: how high partners stand, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from adaptune.results.row import HOME
from adaptune.results.run import RunResults
from adaptune.results.score import Scores

BESIDE = ("recall@5", "recall@10", "mrr", "ndcg@10", "recall@1 back")
"""What is told of pairs beside recall@1, in percent."""

Table = tuple[str, list[str], list[list[str]]]
"""A title, the names of the columns, and the rows."""


def retrieved(scores: Mapping[str, Scores]) -> Table | None:
    """Give a table of one network's test sets; None where none is of pairs."""
    rows = [
        [_named(test), *_numbers([one])] for test, one in scores.items() if BESIDE[0] in one.detail
    ]
    return (_TITLE, ["test set", *BESIDE], rows) if rows else None


def retrieved_by(runs: Sequence[RunResults]) -> Table | None:
    """Give a table of means over the runs of each method; None where none is of pairs."""
    found: dict[tuple[str, str], list[Scores]] = {}
    for run in runs:
        for test, one in run.scores.items():
            if BESIDE[0] in one.detail:
                found.setdefault((run.method, test), []).append(one)
    rows = [[method, _named(test), *_numbers(own)] for (method, test), own in found.items()]
    return (_TITLE, ["method", "test set", *BESIDE], rows) if rows else None


_TITLE = "how high partners stand, in percent"


def _named(test: str) -> str:
    return "ID" if test == HOME else test


def _numbers(scores: Sequence[Scores]) -> list[str]:
    return [f"{mean(one.detail[key] for one in scores):.1f}" for key in BESIDE]
