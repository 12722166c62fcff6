"""Judge networks without target labels, and say afterwards how far that was from the oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
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
from adaptune.types import Outputs

SAMPLE = 2000
"""Rows of a domain that scores look at, spread evenly: some compare every row with every other."""

CLOSE = 2.0
"""Points from the oracle that count as close."""


class Judge:
    """Scores a network on domains whose labels it never sees.

    Args:
        model: The network, or the method that trains it.
        data: ID validation and training images, as the network wants them.
        fabric: Where to compute.
    """

    def __init__(self, model: Network | Method, data: ImageDomains, fabric: Fabric) -> None:
        net = model.net if isinstance(model, Method) else model
        head = net.head
        plain = head.fold() if isinstance(head, StandardizedLinear) else head
        self.weight: Tensor = plain.weight.detach().float().cpu()
        self.val = _some(evaluate(model, data.scan("val"), fabric=fabric))
        self.train = evaluate(model, data.sample("train", SAMPLE), fabric=fabric).features

    def __call__(self, target: Outputs) -> dict[str, float]:
        """Give every score, by name; the labels in ``target`` are left alone."""
        few = _some(target)
        return label_free(Evidence(few.logits, few.features, self.weight, self.val, self.train))


def _some(outputs: Outputs) -> Outputs:
    """Keep at most `SAMPLE` rows, spread evenly."""
    count = len(outputs.y)
    if count <= SAMPLE:
        return outputs
    rows = torch.linspace(0, count - 1, SAMPLE).round().long()
    return Outputs(**{field.name: getattr(outputs, field.name)[rows] for field in fields(Outputs)})


def known_score(name: str) -> str:
    """Check the name of a score.

    Raises:
        ValueError: If there is none of that name.

    >>> known_score("snd")
    'snd'
    """
    if name not in SCORES:
        raise ValueError(f"no score {name!r} to select by: there are {', '.join(SCORES)}")
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
