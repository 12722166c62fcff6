"""Judge networks without target labels, and say afterwards how far that was from the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import sample_outputs
from adaptune.engine.method import Method
from adaptune.metrics.sample import SAMPLE
from adaptune.networks.network import Network
from adaptune.selection import Evidence, label_free
from adaptune.selection.evidence import NO_FEATURES
from adaptune.types import Labeled, Outputs, Unlabeled


class LabelFreeScorer:
    """Scores a network on domains whose labels it never sees.

    Args:
        model: The network, or the method that trains it.
        data: ID validation and training images, as the network wants them; without any, the
            scores that need them have no value.
        fabric: Where to compute.
    """

    def __init__(self, model: Network | Method, data: DomainData, fabric: Fabric) -> None:
        net = model.net if isinstance(model, Method) else model
        self.weight: Tensor = net.head.fold().weight.detach().float().cpu()
        val, train = (
            _shaped(sample_outputs(model, rows, fabric=fabric), self.weight)
            for rows in (data.scan("val"), data.sample("train", SAMPLE))
        )
        self.val, self.train = val, train.features

    def __call__(self, target: Outputs, before: Tensor = NO_FEATURES) -> dict[str, float]:
        """Give every score of a sample of outputs, by name; its labels are left alone.

        ``before`` are the features of the same rows before training, where they are known.
        """
        return label_free(self.evidence(target, before))

    def evidence(self, target: Outputs, before: Tensor = NO_FEATURES) -> Evidence:
        """Put together what scores look at."""
        return Evidence(target.logits, target.features, self.weight, self.val, self.train, before)


def _shaped(outputs: Outputs, weight: Tensor) -> Outputs:
    """Give outputs of no rows the widths that they would have."""
    if len(outputs.y):
        return outputs
    classes, width = weight.shape
    logits, features = torch.empty(0, classes), torch.empty(0, width)
    return replace(outputs, logits=logits, features=features)


def answers_of(outputs: Outputs) -> list[int]:
    """Give the likeliest class of each row.

    >>> answers_of(Outputs(torch.eye(2), torch.zeros(2), torch.eye(2), torch.arange(2)))
    [0, 1]
    """
    classes: list[int] = outputs.logits.argmax(1).tolist()
    return classes


def without_labels(rows: Iterable[Unlabeled]) -> Iterator[Labeled]:
    """Let rows without labels be evaluated: their labels are -1, and nobody may look at them."""
    for one in rows:
        y = torch.full_like(one.index, -1)
        yield Labeled(x=one.x, domain=one.domain, index=one.index, y=y)
