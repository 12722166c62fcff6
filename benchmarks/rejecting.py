"""What a network reaches on an open set by its uncertainty alone, at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from adaptune.engine.evaluate import sample_outputs
from adaptune.networks.network import Network
from adaptune.ops.information import add_unknown_column
from adaptune.runs.folder import best_network
from adaptune.studies.grid import Cell
from adaptune.tasks.classification import Classification
from adaptune.types import Outputs

THRESHOLDS = tuple(step / 20 for step in range(1, 20))
"""Shares of the largest entropy above which a prediction is rejected."""


def by_threshold(outputs: Outputs, classes: int) -> dict[str, float]:
    """Give the H-score at every threshold, in percent.

    >>> import torch
    >>> y = torch.tensor([0, 1, 2])
    >>> logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]])
    >>> by_threshold(Outputs(logits, y, logits, y), 2)["0.55"]
    100.0
    """
    found = {}
    for one in THRESHOLDS:
        tally = Classification(classes, unknown=True).tally()
        tally.add(replace(outputs, logits=add_unknown_column(outputs.logits, one)))
        found[f"{one:.2f}"] = tally.scores().detail["open_set"]["h"]
    return found


def confidence(cells: Sequence[Cell]) -> dict[str, Any]:
    """Say what finished runs reach at every threshold, and at the best for all of them.

    That one is chosen by the labels of the target, which nobody has: no threshold does better on
    the mean.
    """
    rows = []
    for cell in cells:
        net = Network.load(best_network(cell.folder))
        data = cell.data.with_input(net.preprocess)
        (target,) = data.ood
        outputs = sample_outputs(net, data.tests()[target])
        own = {"pair": cell.domain, "seed": cell.plan.seed}
        rows.append(own | {"h": by_threshold(outputs, len(net.classes))})
    best = max(rows[0]["h"], key=lambda one: mean(row["h"][one] for row in rows))
    return {"best": best, "rows": rows}


def at_best(found: Mapping[str, Any]) -> dict[str, float]:
    """Give the mean over seeds of each pair at the threshold that is best for all."""
    reached: dict[str, list[float]] = {}
    for row in found["rows"]:
        reached.setdefault(row["pair"], []).append(row["h"][found["best"]])
    return {pair: mean(values) for pair, values in reached.items()}
