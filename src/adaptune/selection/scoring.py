"""Judge networks without target labels, and say afterwards how far that was from the oracle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property

import torch
from lightning_fabric import Fabric
from torch import Tensor

from adaptune.data.domains import DomainData
from adaptune.data.shifts import FAMILIES, shifted
from adaptune.engine.evaluate import run_through, sample_outputs
from adaptune.engine.method import Method
from adaptune.metrics.sample import SAMPLE
from adaptune.networks.network import Network, Preprocess, TextInput
from adaptune.runtime.processes import add_up
from adaptune.selection import Evidence, label_free
from adaptune.selection.evidence import NO_FEATURES, NO_SHIFTS
from adaptune.types import Labeled, Outputs, Unlabeled

SHIFTED = 200
"""Validation images that are changed by every family."""


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
        self.model, self.data, self.fabric = model, data, fabric
        self.look = net.preprocess

    def __call__(self, target: Outputs, before: Tensor = NO_FEATURES) -> dict[str, float]:
        """Give every score of a sample of outputs, by name; its labels are left alone.

        ``before`` are the features of the same rows before training, where they are known.
        """
        return label_free(self.evidence(target, before))

    def evidence(self, target: Outputs, before: Tensor = NO_FEATURES) -> Evidence:
        """Put together what scores look at."""
        return Evidence(
            *(target.logits, target.features, self.weight, self.val, self.train, before),
            shifted=lambda: self.shifted,
        )

    @cached_property
    def shifted(self) -> Tensor:
        """Accuracies in percent under each family of made shifts (F,), of `SHIFTED` rows.

        None where rows are no images.
        """
        look, right = self.look, _FamilyTally()
        if isinstance(look, TextInput):
            return NO_SHIFTS
        rows = self.data.sample("val", SHIFTED)
        run_through(self.model, _under_shifts(rows, look), right, fabric=self.fabric)
        return right.accuracies()


class _FamilyTally:
    """Counts rows that are right by family, which the rest of their index by their number tells."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, len(FAMILIES), dtype=torch.int64)

    def add(self, outputs: Outputs) -> None:
        family = (outputs.index % len(FAMILIES)).cpu()
        right = (outputs.logits.argmax(1) == outputs.y).long().cpu()
        self.counts[0].index_add_(0, family, torch.ones_like(family))
        self.counts[1].index_add_(0, family, right)

    def merge(self) -> None:
        self.counts = add_up(self.counts)

    def accuracies(self) -> Tensor:
        rows, right = self.counts
        return 100 * right.double() / rows if rows.all() else NO_SHIFTS


def _under_shifts(batches: Iterable[Labeled], look: Preprocess) -> Iterator[Labeled]:
    """Give every batch of images under every family, each row's index times their number and more.

    Pixels are found again by undoing mean and deviation; rows that are no images are left out.
    """
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (look.mean, look.std))
    for batch in batches:
        if batch.x.dim() != 4 or not batch.x.shape[1] == len(mean) == 3:
            continue
        pictures = (batch.x.float().cpu() * std + mean).clamp(0, 1)
        for number, family in enumerate(FAMILIES):
            pairs = zip(pictures, batch.index.tolist(), strict=True)
            changed = torch.stack([shifted(picture, family, row) for picture, row in pairs])
            index = batch.index * len(FAMILIES) + number
            yield replace(batch, x=((changed - mean) / std).to(batch.x), index=index)


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
