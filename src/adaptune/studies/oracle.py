"""What choosing runs by a score without labels costs, told by an oracle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adaptune.results.answers import Answers, read_answers
from adaptune.results.images import Ran
from adaptune.results.ranking import AnyRun
from adaptune.results.run import RunResults
from adaptune.results.score import number
from adaptune.selection import gap_to_oracle, highest, rank_agreement
from adaptune.selection.bag import Bag, bag_scores

CLOSE = 2.0
"""Points from the oracle that count as close; without points, hundredths of what it reaches."""


def with_agreement(runs: Sequence[RunResults]) -> list[RunResults]:
    """Add to runs how they agree, by the answers that stand in their folders; see `agreeing`."""
    return agreeing(runs, [read_answers(Path(run.config).parent / "answers.json") for run in runs])


def agreeing(runs: Sequence[AnyRun], kept: Sequence[Answers]) -> list[AnyRun]:
    """Add to each run's scores without labels how it agrees with the others of its domain.

    Runs that were trained on one domain and answer on the same rows are one bag.
    """
    found = [{test: dict(own) for test, own in run.label_free.items()} for run in runs]
    for (_, test), rows in _cases(runs).items():
        alike: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            if test in kept[row].tests:
                same = (len(kept[row].tests[test]), *kept[row].labels)
                alike.setdefault(same, []).append(row)
        for own in alike.values():
            scores = bag_scores(bag_of([kept[row] for row in own], test))
            for row, more in zip(own, scores, strict=True):
                found[row][test].update(more)
    return [replace(run, label_free=own) for run, own in zip(runs, found, strict=True)]


def bag_of(answers: Sequence[Answers], test: str) -> Bag:
    """Put together what several networks answer on a test set and on ID validation.

    >>> bag_of([Answers([1], [1], {"x": [0, 1]})] * 2, "x").target.tolist()
    [[0, 1], [0, 1]]
    """
    return Bag(
        torch.tensor([one.tests[test] for one in answers]),
        torch.tensor([one.val for one in answers]),
        torch.tensor(answers[0].labels),
    )


def oracle_gaps(runs: Sequence[Ran]) -> dict[str, dict[str, Any]]:
    """Say for each score what choosing among ``runs`` by it costs, told by the target's labels.

    Each training domain with each of its test domains is one case: of the runs trained there, the
    score chooses one, and ``gap`` is how many points it lies below the best, which only an oracle
    knows. ``spearman`` is the rank correlation of score and merit. Both are means over cases;
    ``close`` counts the cases with a gap of at most 2 points, ``chose`` how often the score took a
    run of each method. Scores are all that any of the runs has.
    """
    cases = _cases(runs)
    names = dict.fromkeys(name for run in runs for own in run.label_free.values() for name in own)
    told = {}
    for name in names:
        one = [
            _case(name, trained, target, [runs[row] for row in rows])
            for (trained, target), rows in cases.items()
        ]
        agreed = [case["spearman"] for case in one if not math.isnan(case["spearman"])]
        gaps = [(case["gap"], case["oracle"]) for case in one if not math.isnan(case["gap"])]
        told[name] = {
            "spearman": mean(agreed) if agreed else None,
            "gap": mean(gap for gap, _ in gaps) if gaps else None,
            "close": sum(gap <= runs[0].measure.margin(CLOSE, best) for gap, best in gaps),
            "chose": dict(Counter(case["chosen"] for case in one if case["chosen"]).most_common()),
            "cases": one,
        }
    return told


def _cases(runs: Sequence[Ran]) -> dict[tuple[str, str], list[int]]:
    """List the runs of each training domain that were tested on each other one, by number."""
    cases: dict[tuple[str, str], list[int]] = {}
    for row, run in enumerate(runs):
        for target in run.label_free:
            cases.setdefault((run.domain, target), []).append(row)
    return cases


def _case(name: str, trained: str, target: str, runs: Sequence[Ran]) -> dict[str, Any]:
    measure = runs[0].measure
    scores = [number(run.label_free[target].get(name)) for run in runs]
    truth = [measure.merit(run.elsewhere[target]) for run in runs]
    chosen = highest(scores)
    return {
        "trained": trained,
        "target": target,
        "runs": len(runs),
        "oracle": measure.merit(max(truth)),
        "chosen": None if chosen is None else runs[chosen].method,
        "gap": gap_to_oracle(scores, truth),
        "spearman": rank_agreement(scores, truth),
    }
