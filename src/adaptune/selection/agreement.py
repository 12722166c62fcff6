"""How well a score selects, told by the true accuracies once they are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import spearmanr


def rank_agreement(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Spearman's rank correlation of ``scores`` with ``truth``, one entry a network.

    NaN where either is constant or holds a NaN, since ranks then say nothing.

    Raises:
        ValueError: If the lengths differ.

    >>> rank_agreement([0.1, 0.5, 9.0], [50.0, 60.0, 61.0])
    1.0
    """
    aligned(scores, truth)
    unranked = any(math.isnan(value) for value in (*scores, *truth))
    if unranked or len(set(scores)) < 2 or len(set(truth)) < 2:
        return math.nan
    return float(spearmanr(scores, truth).statistic)


def gap_to_oracle(scores: Sequence[float], truth: Sequence[float]) -> float:
    """How much is lost by trusting a score: the best truth less that of the highest score.

    Of equal scores the first counts; a NaN score is never chosen, and if all are NaN, so is the
    gap. In the unit of ``truth``.

    Raises:
        ValueError: If the lengths differ or there are no networks.

    >>> gap_to_oracle([0.2, 0.9, 0.9], [70.0, 64.0, 80.0])
    16.0
    """
    aligned(scores, truth)
    chosen = highest(scores)
    return math.nan if chosen is None else max(truth) - truth[chosen]


def highest(scores: Sequence[float]) -> int | None:
    """Say which of the scores is the highest: the first of equals, never a NaN, None of NaN alone.

    >>> highest([0.2, math.nan, 0.9, 0.9]), highest([math.nan])
    (2, None)
    """
    known = [row for row, score in enumerate(scores) if not math.isnan(score)]
    return max(known, key=lambda row: scores[row]) if known else None


def aligned(scores: Sequence[float], truth: Sequence[float]) -> None:
    """Refuse scores and truths that cannot belong to the same networks.

    >>> aligned([1.0], [2.0])
    """
    if len(scores) != len(truth) or len(scores) == 0:
        raise ValueError(
            f"{len(scores)} scores and {len(truth)} accuracies: one of each is needed a network"
        )
