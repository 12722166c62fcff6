"""What choosing runs by a score without labels costs, told by an oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from adaptune.results.images import Ran
from adaptune.results.score import number
from adaptune.selection import SCORES, gap_to_oracle, rank_agreement

CLOSE = 2.0
"""Points from the oracle that count as close; without points, hundredths of what it reaches."""


def oracle_gaps(runs: Sequence[Ran]) -> dict[str, dict[str, Any]]:
    """Say for each score what choosing among ``runs`` by it costs, told by the target's labels.

    Each training domain with each of its test domains is one case: of the runs trained there, the
    score chooses one, and ``gap`` is how many points it lies below the best, which only an oracle
    knows. ``spearman`` is the rank correlation of score and merit. Both are means over cases;
    ``close`` counts the cases with a gap of at most 2 points.
    """
    cases: dict[tuple[str, str], list[Ran]] = {}
    for run in runs:
        for target in run.label_free:
            cases.setdefault((run.domain, target), []).append(run)
    told = {}
    for name in SCORES:
        one = [_case(name, trained, target, own) for (trained, target), own in cases.items()]
        agreed = [case["spearman"] for case in one if not math.isnan(case["spearman"])]
        gaps = [(case["gap"], case["oracle"]) for case in one if not math.isnan(case["gap"])]
        told[name] = {
            "spearman": mean(agreed) if agreed else None,
            "gap": mean(gap for gap, _ in gaps) if gaps else None,
            "close": sum(gap <= runs[0].measure.margin(CLOSE, best) for gap, best in gaps),
            "cases": one,
        }
    return told


def _case(name: str, trained: str, target: str, runs: Sequence[Ran]) -> dict[str, Any]:
    measure = runs[0].measure
    scores = [number(run.label_free[target][name]) for run in runs]
    truth = [measure.merit(run.elsewhere[target]) for run in runs]
    return {
        "trained": trained,
        "target": target,
        "runs": len(runs),
        "oracle": measure.merit(max(truth)),
        "gap": gap_to_oracle(scores, truth),
        "spearman": rank_agreement(scores, truth),
    }
