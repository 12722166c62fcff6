"""How good ranked answers are where it is known which documents are relevant, in which degree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean

Grades = Mapping[str, float]
"""How relevant documents are, by name; those above 0 are relevant, what is left out is not."""

AT = 10
"""How many of the first answers nDCG and the reciprocal rank look at."""


def gain(found: Sequence[str], grades: Grades, at: int = AT) -> float:
    """Give the normalised discounted cumulative gain of the first ``at`` documents, 0 to 1.

    A document at rank r counts its grade over log2(1 + r); the best order counts 1. Source:
    Cumulated gain-based evaluation of IR techniques (Jaervelin and Kekaelaeinen, 2002), with grades
    as gains, as trec_eval has it.

    >>> gain(["a", "b"], {"b": 1.0}) == 1 / math.log2(3)
    True
    """
    own = [max(0.0, grades.get(one, 0.0)) for one in found[:at]]
    best = sorted((one for one in grades.values() if one > 0), reverse=True)[:at]
    return _discounted(own) / _discounted(best) if best else 0.0


def reciprocal_rank(found: Sequence[str], grades: Grades, at: int = AT) -> float:
    """Give 1 over the rank of the first relevant document; 0 if none is among the first ``at``.

    >>> reciprocal_rank(["a", "b"], {"b": 1.0})
    0.5
    """
    hits = (rank for rank, one in enumerate(found[:at], 1) if grades.get(one, 0.0) > 0)
    return 1 / next(hits, math.inf)


def recall(found: Sequence[str], grades: Grades, at: int) -> float:
    """Give the share of relevant documents that are among the first ``at``; 0 if there are none.

    >>> recall(["a", "b"], {"b": 1.0, "c": 1.0}, 2)
    0.5
    """
    relevant = {name for name, grade in grades.items() if grade > 0}
    return len(relevant.intersection(found[:at])) / len(relevant) if relevant else 0.0


def score_found(
    found: Mapping[str, Sequence[str]], relevance: Mapping[str, Grades], most: int
) -> dict[str, float]:
    """Give the means over queries that have a relevant document, in percent.

    Args:
        found: The documents that were found for each query, the best first.
        relevance: The grades of documents by query.
        most: How many were looked for; recall is told of no more.

    Raises:
        ValueError: If no query has a relevant document.

    >>> score_found({"q": ["a", "b"]}, {"q": {"b": 1.0}}, 2)["mrr@10"]
    50.0
    """
    asked = [
        name
        for name, grades in relevance.items()
        if name in found and any(grade > 0 for grade in grades.values())
    ]
    if not asked:
        raise ValueError(
            "no query that was asked has a relevant document: the names of queries in the file of "
            "relevance should be those of the queries' column id"
        )
    pairs = [(found[name], relevance[name]) for name in asked]
    scores = {
        f"ndcg@{AT}": 100 * mean(gain(own, grades) for own, grades in pairs),
        f"mrr@{AT}": 100 * mean(reciprocal_rank(own, grades) for own, grades in pairs),
    }
    depths = dict.fromkeys((*(at for at in (1, 10, 100) if at < most), most))
    return scores | {
        f"recall@{at}": 100 * mean(recall(own, grades, at) for own, grades in pairs)
        for at in depths
    }


def _discounted(gains: Sequence[float]) -> float:
    return sum(one / math.log2(1 + rank) for rank, one in enumerate(gains, 1))
