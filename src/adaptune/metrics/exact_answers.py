"""Scores of short answers to questions: yes or no, one name, or a list of names.

They are those of BioASQ's task B, phase B (Tsatsaronis et al., 2015; macro F1 since its sixth
edition): a name is right if it is one of the true one's synonyms, whatever its case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptune.results.score import Score

Rows = NDArray[np.float64]
"""What each question adds to a score, (N, C)."""

Names = Sequence[Sequence[str]]
"""What is true: names, each with its synonyms."""

DRAWS = 1000
"""Sets that are drawn for an interval."""


def same(name: str) -> str:
    """Write a name so that those that count as one are equal.

    >>> same(' "Alpha  Beta." ')
    'alpha beta'
    """
    return " ".join(name.casefold().strip(" \t\n.,;:\"'").split())


def yes_no_row(answer: Sequence[str], truth: str) -> list[float]:
    """Count an answer, or none, to a question of yes or no.

    Gives for yes, then for no: whether it is both said and true, whether it is said, is true.

    >>> yes_no_row(["yes"], "yes"), yes_no_row([], "no")
    ([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    """
    said = answer[0] if answer else ""
    counts = [(said == truth == one, said == one, truth == one) for one in ("yes", "no")]
    return [float(value) for three in counts for value in three]


def factoid_row(answer: Sequence[str], names: Names) -> list[float]:
    """Rank names, the likeliest first: whether the first is right, any of five, and 1 / rank.

    >>> factoid_row(["b", "A"], [["a", "alpha"]])
    [0.0, 1.0, 0.5]
    """
    true = {same(name) for synonyms in names for name in synonyms}
    right = [same(name) in true for name in answer[:5]]
    rank = right.index(True) + 1 if any(right) else 0
    return [float(rank == 1), float(rank > 0), 1 / rank if rank else 0.0]


def list_row(answer: Sequence[str], names: Names) -> list[float]:
    """Hold a list against the true names: precision, recall and F1.

    A true name counts once, by whichever of its synonyms; another one of these is wrong.

    >>> list_row(["a", "x"], [["A"], ["b"], ["c", "x"], ["d"]])
    [1.0, 0.5, 0.6666666666666666]
    """
    said = {same(name) for name in answer}
    found = sum(bool(said & {same(one) for one in synonyms}) for synonyms in names)
    if not found:
        return [0.0, 0.0, 0.0]
    precision, recall = found / len(said), found / len(names)
    return [precision, recall, 2 * precision * recall / (precision + recall)]


def macro_f1(means: Rows) -> Rows:
    """Give the mean of the F1 of yes and of no, of means (..., 6) of `yes_no_row`; 0 of neither.

    >>> macro_f1(np.array([0.5, 1.0, 0.5, 0.0, 0.0, 0.5]))
    array(0.33333333)
    """
    both = means.reshape(*means.shape[:-1], 2, 3)
    total = both[..., 1] + both[..., 2]
    return np.asarray((2 * both[..., 0] / np.where(total > 0, total, 1)).mean(-1))


def column(at: int) -> Callable[[Rows], Rows]:
    """Give what takes one mean of several, (..., C) to (...)."""
    return lambda means: np.asarray(means[..., at])


def accuracy(means: Rows) -> Rows:
    """Give the share of right answers of means of `yes_no_row`."""
    return np.asarray(means[..., 0] + means[..., 3])


MEASURES: dict[str, dict[str, Callable[[Rows], Rows]]] = {
    "yesno": {"macro F1": macro_f1, "accuracy": accuracy},
    "factoid": {"MRR": column(2), "strict accuracy": column(0), "lenient accuracy": column(1)},
    "list": {"mean F1": column(2), "mean precision": column(0), "mean recall": column(1)},
}
"""Scores of each kind of question, the one that counts first."""


def question_scores(kind: str, rows: Sequence[Sequence[float]]) -> dict[str, Score]:
    """Give the scores of questions of a kind in percent, with intervals of a bootstrap over them.

    >>> found = question_scores("factoid", [[1.0, 1.0, 1.0], [0.0, 1.0, 0.5]])
    >>> {name: one.value for name, one in found.items()}
    {'MRR': 75.0, 'strict accuracy': 50.0, 'lenient accuracy': 100.0}
    """
    own = np.asarray(rows, dtype=np.float64)
    return {name: _bootstrapped(name, own, of) for name, of in MEASURES[kind].items()}


def score_gains(
    kind: str, rows: Sequence[Sequence[float]], others: Sequence[Sequence[float]]
) -> dict[str, Score]:
    """Say by how much answers are better than others to the same questions, in points.

    Questions are drawn with both answers to them, so the interval is of the difference.

    >>> gains = score_gains("factoid", [[1.0, 1.0, 1.0]], [[0.0, 1.0, 0.5]])
    >>> [gains["MRR"].value, gains["MRR"].low]
    [50.0, 50.0]
    """
    both = np.concatenate([np.asarray(one, dtype=np.float64) for one in (rows, others)], 1)
    half = both.shape[1] // 2

    def apart(of: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
        return lambda means: of(means[..., :half]) - of(means[..., half:])

    return {name: _bootstrapped(name, both, apart(of)) for name, of in MEASURES[kind].items()}


def _bootstrapped(name: str, rows: Rows, of: Callable[[Rows], Rows]) -> Score:
    """Score rows (N, C), and sets of as many that are drawn from them, always the same ones."""
    often = np.random.default_rng(0).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), DRAWS
    )
    drawn = 100 * of(often @ rows / len(rows))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Score(name, 100 * float(of(rows.mean(0))), float(low), float(high), float(np.std(drawn)))
