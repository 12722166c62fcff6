"""A tally of places: intersection over union by class, and what else masks are scored by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptune.metrics.classification import mean_loss
from adaptune.metrics.column import Column
from adaptune.metrics.tally import Mistake
from adaptune.ops.places import boundary_scores, counted_pairs, on_grid, place_losses
from adaptune.results.score import Score, Scores
from adaptune.runtime.processes import add_up, gather
from adaptune.types import Outputs

DRAWS = 1000
"""Sets that are drawn for an interval."""

TOLERANCE = 0.0075
"""How far a boundary may be off, as a share of the diagonal (Csurka et al., 2013)."""

AT_ONCE = 2**22
"""Numbers of drawn sets that are held at a time."""


class PlaceTally:
    """Counts which class was taken for which at every place; scores by the mean IoU in percent.

    Places are those of the labels (N, H, W), to which outputs (N, K, h, w) are brought; those whose
    label is no class do not count. The interval is a bootstrap over images, so of each image three
    numbers a class are kept, with its loss, index and boundary score: 12 K + 16 bytes. Finding
    boundaries waits for the device.

    The detail of its scores is ``confusion`` in places, one row a true class; in percent, by class,
    ``iou`` and ``dice``, None of what is neither there nor predicted; ``pixel_accuracy``,
    ``mean_dice`` and ``boundary_f1``, the mean over images; how many places are ``unasked``, and
    how many images have no other (``empty``).
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.unasked = torch.zeros((), dtype=torch.int64)
        self.losses, self.boundary = Column(), Column()
        self.index, self.counts = Column(torch.int64), Column(torch.int32)

    def add(self, outputs: Outputs) -> None:
        """Count one batch.

        Raises:
            ValueError: If the outputs are of no places, or not as many as the task's.
        """
        logits, y = outputs.logits, outputs.y
        if logits.dim() != 4 or logits.shape[1] != self.classes:
            raise ValueError(
                f"a task of {self.classes} classes at every place has outputs (N, {self.classes}, "
                f"h, w) and got {tuple(logits.shape)}: evaluate a network of places"
            )
        logits = on_grid(logits.float(), y.shape[1:])
        self.losses.add(place_losses(logits, y))
        self.index.add(outputs.index)
        guess = logits.argmax(1)
        pairs = counted_pairs(guess, y, self.classes)
        self.confusion = self.confusion.to(y.device) + pairs.sum(0)
        met, there, said = pairs.diagonal(dim1=1, dim2=2), pairs.sum(2), pairs.sum(1)
        self.counts.add(torch.stack([met, there, said], 2).int().flatten())
        self.boundary.add(boundary_scores(guess, y, self.classes, tolerance=TOLERANCE).float())
        self.unasked = self.unasked.to(y.device) + (y >= self.classes).sum()

    def merge(self) -> None:
        """Add up what all processes counted."""
        self.confusion, self.unasked = add_up(self.confusion), add_up(self.unasked)
        for column in (self.losses, self.index, self.counts, self.boundary):
            column.replace(gather(column.values()))

    def scores(self) -> Scores:
        """Score the set.

        Raises:
            ValueError: If it had no row, or none of its places has a class.
        """
        order = self.index.values().argsort(stable=True)
        losses, boundary = (one.values().cpu()[order] for one in (self.losses, self.boundary))
        counts = self.counts.values().cpu().view(-1, self.classes, 3)[order].numpy()
        total = counts.sum(0, dtype=np.int64)
        if not total[:, 1].any():
            raise ValueError(
                "no place could be scored: the set is empty, no file could be read, or no mask "
                "holds a class"
            )
        iou, dice = overlaps(total)
        return Scores(
            mean_overlap(counts),
            mean_loss(losses),
            len(losses),
            {
                "confusion": tuple(tuple(row) for row in self.confusion.tolist()),
                "iou": _percents(iou),
                "dice": _percents(dice),
                "pixel_accuracy": 100 * float(total[:, 0].sum() / total[:, 1].sum()),
                "mean_dice": 100 * float(np.nanmean(dice)),
                "boundary_f1": _mean(boundary),
                "unasked": int(self.unasked),
                "empty": int((counts[:, :, 1].sum(1) == 0).sum()),
            },
        )

    def mistakes(self) -> list[Mistake]:
        """Give none: an image is no single answer."""
        return []


def overlaps(counts: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give IoU and Dice (..., K) of counts (..., K, 3): met, there, predicted; NaN where all are 0.

    >>> iou, dice = overlaps(np.array([[2, 3, 3], [0, 0, 0]]))
    >>> iou.tolist(), round(float(dice[0]), 3)
    ([0.5, nan], 0.667)
    """
    met, there, said = (counts[..., at].astype(float) for at in range(3))
    with np.errstate(invalid="ignore"):
        return met / (there + said - met), 2 * met / (there + said)


def mean_overlap(counts: NDArray[Any]) -> Score:
    """Give the mean IoU over classes in percent, of counts (N, K, 3) an image as in `overlaps`.

    Its interval and error are of a bootstrap over images, with draws that are always the same.
    Source: Efron, 1979.

    >>> mean_overlap(np.array([[[2, 3, 3]]])).value
    50.0
    """
    images = len(counts)
    random = np.random.default_rng(0)
    flat = counts.reshape(images, -1).astype(float)
    drawn: list[float] = []
    while len(drawn) < DRAWS:
        some = min(DRAWS - len(drawn), max(1, AT_ONCE // images))
        often = random.multinomial(images, np.full(images, 1 / images), size=some)
        iou, _ = overlaps((often @ flat).reshape(some, *counts.shape[1:]))
        there = ~np.isnan(iou)
        sums = np.where(there, iou, 0).sum(1)
        drawn += (100 * sums / np.maximum(there.sum(1), 1)).tolist()
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = 100 * float(np.nanmean(overlaps(counts.sum(0, dtype=np.int64))[0]))
    return Score("mIoU", value, float(low), float(high), float(np.std(drawn)))


def _percents(shares: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(one) else 100 * float(one) for one in shares)


def _mean(shares: Tensor) -> float | None:
    """Give the mean of those that are numbers, in percent; None where none is."""
    known = shares[~shares.isnan()]
    return 100 * float(known.double().mean()) if len(known) else None
