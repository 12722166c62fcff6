"""Heads started at the linear probe of the features that a scan saw."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from adaptune.metrics.sample import Sample
from adaptune.networks.heads import Readout
from adaptune.ops.probe import PLACES, cross_validated_probe, penalties
from adaptune.ops.rows import rows
from adaptune.runtime.processes import broadcast_from_first
from adaptune.types import Labeled, Outputs

ROWS = 10_000
"""Rows that the probe is fitted to at most."""


class ProbeStart:
    """Keeps features and labels of a scan, as its ``watch``, and starts a head at their probe.

    Kept are at most ``ROWS`` rows, chosen by a hash of their index; of features with places as
    many places, `PLACES` of a row, those that have a class.

    >>> import torch
    >>> x, y = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> start, head = ProbeStart(), Readout(1, 2).zero_()
    >>> start(Labeled(x=x, domain=y, index=torch.arange(4), y=y), x)
    >>> start.apply(head)["c"] > 0, head(x).argmax(1).tolist()
    (True, [0, 0, 1, 1])
    """

    def __init__(self) -> None:
        self.sample = Sample(ROWS, PLACES)

    def __call__(self, batch: Labeled, features: Tensor) -> None:
        """Take a batch with its features (N, D, ...)."""
        self.sample.add(Outputs(features[:, :0], batch.y, features, batch.index))

    def apply(self, head: Readout) -> dict[str, Any]:
        """Start a head at the probe, whatever it standardises by; say C and what was tried.

        It stays as it is where fewer than two classes were seen. Of several processes all must
        call this, and get the same head.
        """
        self.sample.merge()
        found, classes = self.sample.outputs(), len(head.weight)
        features, y = rows(found.features), found.y.flatten().long()
        features, y = features[y < classes], y[y < classes]
        if len(y.bincount().nonzero()) < 2:
            return {}
        probe = broadcast_from_first(
            lambda: cross_validated_probe(features, y, classes=classes, cs=penalties(19))
        )
        head.take_raw(probe.weight, probe.bias)
        return {"c": probe.c, "path": [list(tried) for tried in probe.path]}
