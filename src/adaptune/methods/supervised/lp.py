"""Linear probing."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import torch

from adaptune.batchnorm.scan import scan
from adaptune.engine.method import Method
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.networks.sides import need_pretrained
from adaptune.ops.places import labelled_rows
from adaptune.ops.probe import PLACES, Probe, linear_probe, penalties
from adaptune.runtime.processes import broadcast_from_first, gather
from adaptune.tasks.task import Labelling
from adaptune.types import Batch, BatchNormPolicy, Domains, Group, Labeled, Objective

FeaturesAndLabels = tuple[torch.Tensor, torch.Tensor]

KEPT = 4  # probes at a time


class LinearProbe(Method):
    """Solve logistic regression on frozen features; nothing else moves.

    Features of every training and validation image are computed once. Values of C from 1e-7 to 1e2
    are tried, and the one most accurate on ID validation is kept. Batch norms stay in eval mode, so
    features are the pretrained network's own. Of images with a class at every place 16 places are
    seen, evenly spread, which is ours. Source: the protocol of Ha, Jeong and Lee, 2024, after Kumar
    et al., 2022.

    Args:
        cs: How many values of C are tried.
    """

    setting: ClassVar[str] = "supervised"
    task: Labelling
    net: Network[Readout]

    def __init__(self, net: Network[Readout], task: Labelling, *, cs: int = 50) -> None:
        super().__init__(net, task, batchnorm="eval")
        self.cs = cs

    def prepare(self, data: Domains) -> dict[str, Any]:
        """Find the head."""
        return probe_head(self.net, self.task, data, cs=self.cs, batchnorm="eval")

    def groups(self) -> list[Group]:
        """Train nothing by descent."""
        return []

    def objective(self, batch: Batch) -> Objective:
        """Give the loss, for whoever wants to watch it."""
        logits = self.net(batch.labeled.x)
        return Objective({"task": self.task.loss(logits, batch.labeled.y)}, logits)


def probe_head(
    net: Network[Readout],
    task: Labelling,
    data: Domains,
    *,
    cs: int,
    batchnorm: BatchNormPolicy,
) -> dict[str, Any]:
    """Put the best linear probe into the network's head, in one pass over train and one over val.

    The pass over train also converts batch norms if ``batchnorm`` says so: features are the same
    before and after. Gives what a report should show. Where several processes run, the rows of all
    are gathered, the first solves the probe and all get it.

    Raises:
        ValueError: If a decoder begins at random, so that features say nothing.
    """
    need_pretrained(net, "a linear probe", "take --method ft or daft")
    seen: dict[str, list[list[torch.Tensor]]] = {"train": [], "val": []}

    def keep(batch: Labeled, features: torch.Tensor) -> None:
        rows, y, row = labelled_rows(features, batch.y, task.classes, PLACES)
        seen[split].append([rows.float().cpu(), y.cpu(), batch.index[row].cpu()])

    split = "train"
    notes = scan(net.body, data.scan("train"), policy=batchnorm, watches=[keep])
    split = "val"
    scan(net.body, data.scan("val"), policy="eval", watches=[keep])
    train, val = _joined(seen["train"]), _joined(seen["val"])
    probe = broadcast_from_first(lambda: _solved(train, val, task.classes, cs))
    with torch.no_grad():
        net.head.weight.copy_(probe.weight)
        net.head.bias.copy_(probe.bias)
    return notes | {"probe": {"c": probe.c, "path": [list(tried) for tried in probe.path]}}


_PROBES: dict[str, Probe] = {}  # the last: runs that differ in seed or rate alone share theirs


def _solved(train: FeaturesAndLabels, val: FeaturesAndLabels, classes: int, cs: int) -> Probe:
    """Solve the probe, unless these very features were solved before."""
    key = hashlib.sha256(f"{classes} {cs} {train[0].shape}".encode())
    for rows in (*train, *val):
        key.update(rows.contiguous().numpy().tobytes())
    name = key.hexdigest()
    if name not in _PROBES:
        probe = linear_probe(*train, *val, classes=classes, cs=penalties(cs))
        while len(_PROBES) >= KEPT:
            del _PROBES[next(iter(_PROBES))]
        _PROBES[name] = probe
    return _PROBES[name]


def _joined(parts: list[list[torch.Tensor]]) -> FeaturesAndLabels:
    """Join the rows of all batches and processes, in the order of the data set."""
    own = [torch.cat(part) for part in zip(*parts, strict=True)] or [torch.empty(0)] * 3
    features, y, index = map(gather, own)
    if not len(y):
        raise ValueError(
            "linear probing needs training and validation images and one of them has none: "
            "give the data a val folder, or a share for validation"
        )
    order = index.argsort(stable=True)
    return features[order], y[order]
