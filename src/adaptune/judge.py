"""Judge networks without target labels, and say afterwards how far that was from the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.data.domains import ImageDomains
from adaptune.head import StandardizedLinear
from adaptune.loop import evaluate
from adaptune.method import Method
from adaptune.network import Network
from adaptune.select import SCORES, Evidence, gap_to_oracle, label_free, rank_agreement
from adaptune.types import Labeled, Outputs, Unlabeled

SAMPLE = 2000
"""Rows of a domain that scores look at, spread evenly: some compare every row with every other."""

LAST = "last"
BY_VALIDATION = "id-validation"
OF_SOURCE = (BY_VALIDATION, "iwv", "dev")
"""Scores that have no value without validation images of the source."""

CLOSE = 2.0
"""Points from the oracle that count as close."""


class Judge:
    """Scores a network on domains whose labels it never sees.

    Args:
        model: The network, or the method that trains it.
        data: ID validation and training images, as the network wants them; without any, the
            scores that need them have no value.
        fabric: Where to compute.
    """

    def __init__(self, model: Network | Method, data: ImageDomains, fabric: Fabric) -> None:
        net = model.net if isinstance(model, Method) else model
        head = net.head
        plain = head.fold() if isinstance(head, StandardizedLinear) else head
        self.weight: Tensor = plain.weight.detach().float().cpu()
        val, train = (
            _shaped(evaluate(model, rows, fabric=fabric), self.weight)
            for rows in (data.scan("val"), data.sample("train", SAMPLE))
        )
        self.val, self.train = _some(val), train.features

    def __call__(self, target: Outputs) -> dict[str, float]:
        """Give every score, by name; the labels in ``target`` are left alone."""
        few = _some(target)
        return label_free(Evidence(few.logits, few.features, self.weight, self.val, self.train))


def _some(outputs: Outputs) -> Outputs:
    """Keep at most `SAMPLE` rows, spread evenly."""
    count = len(outputs.y)
    if count <= SAMPLE:
        return outputs
    return outputs.at(torch.linspace(0, count - 1, SAMPLE).round().long())


def _shaped(outputs: Outputs, weight: Tensor) -> Outputs:
    """Give outputs of no rows the widths that they would have."""
    if len(outputs.y):
        return outputs
    classes, width = weight.shape
    logits, features = torch.empty(0, classes), torch.empty(0, width)
    return replace(outputs, logits=logits, features=features)


def unknown(rows: Iterable[Unlabeled]) -> Iterator[Labeled]:
    """Let rows without labels be evaluated: their labels are -1, and nobody may look at them."""
    for one in rows:
        y = torch.full_like(one.index, -1)
        yield Labeled(x=one.x, domain=one.domain, index=one.index, y=y)


def chooser(name: str, data: ImageDomains) -> str:
    """Say what chooses the epoch of a run, given what was asked for.

    Without validation images, validation gives way to the last epoch.

    Raises:
        ValueError: If there is no score of that name, or it has nothing to look at.
    """
    if name not in (*SCORES, LAST):
        raise ValueError(f"no score {name!r} to select by: there are {', '.join((*SCORES, LAST))}")
    validates = "val" in data.sets
    if name == LAST or (name == BY_VALIDATION and not validates):
        return LAST
    if name in OF_SOURCE and not validates:
        raise ValueError(
            f"--select {name} needs validation images of the source, and there are none: pass "
            f"DATA, or select by one of {', '.join(n for n in SCORES if n not in OF_SOURCE)}"
        )
    if name != BY_VALIDATION and not (data.ood or len(data.target)):
        raise ValueError(
            f"--select {name} needs images of another domain: give some with --ood or --target"
        )
    return name


def oracle_gaps(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Say for each score what choosing among ``runs`` by it costs, told by the target's labels.

    Each training domain with each of its test domains is one case: of the runs trained there, the
    score chooses one, and ``gap`` is how many points it lies below the best, which only an oracle
    knows. ``spearman`` is the rank correlation of score and accuracy. Both are means over cases;
    ``close`` counts the cases with a gap of at most 2 points.
    """
    cases: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for target in run["label_free"]:
            cases.setdefault((run["domain"], target), []).append(run)
    told = {}
    for name in SCORES:
        one = [_case(name, trained, target, own) for (trained, target), own in cases.items()]
        agreed = [case["spearman"] for case in one if not math.isnan(case["spearman"])]
        gaps = [case["gap"] for case in one if not math.isnan(case["gap"])]
        told[name] = {
            "spearman": mean(agreed) if agreed else None,
            "gap": mean(gaps) if gaps else None,
            "close": sum(gap <= CLOSE for gap in gaps),
            "cases": one,
        }
    return told


def _case(
    name: str, trained: str, target: str, runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    scores = [_number(run["label_free"][target][name]) for run in runs]
    truth = [run["ood"][target] for run in runs]
    return {
        "trained": trained,
        "target": target,
        "runs": len(runs),
        "oracle": max(truth),
        "gap": gap_to_oracle(scores, truth),
        "spearman": rank_agreement(scores, truth),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value
