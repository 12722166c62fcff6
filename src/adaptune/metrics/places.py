"""A tally of places: intersection over union by class, and what else masks are scored by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptune.metrics.classification import mean_loss
from adaptune.metrics.column import Column
from adaptune.metrics.tally import Mistake
from adaptune.ops.places import (
    best_classes,
    boundary_scores,
    counted_pairs,
    own_sizes,
    summed_loss,
)
from adaptune.ops.windows import WHOLE, Tiles, bands
from adaptune.results.score import Score, Scores
from adaptune.runtime.devices import exact
from adaptune.runtime.processes import add_up, gather
from adaptune.types import Outputs

DRAWS = 1000
"""Sets that are drawn for an interval."""

TOLERANCE = 0.0075
"""How far a boundary may be off, as a share of the diagonal (Csurka et al., 2013)."""

RANKED = 3
"""Images of a kind that are named, to be looked at."""

AT_ONCE = 2**22
"""Numbers of drawn sets that are held at a time."""


class PlaceTally:
    """Counts which class was taken for which at every place; scores by the mean IoU in percent.

    Places are those of the labels (N, H, W), to which outputs (N, K, h, w) are brought, image by
    image and some rows at a time; of several windows an image they lie side by side (`bands`).
    Places whose label is no class do not count, and what fills up a label to the size of others
    (`BEYOND`) is none. The interval is a bootstrap over images, so of each image three numbers a
    class are kept, with its loss, index and boundary score: 12 K + 16 bytes. Sizes and boundaries
    wait for the device.

    The detail of its scores is ``confusion`` in places, one row a true class; in percent, by class,
    ``iou`` and ``dice``, None of what is neither there nor predicted; ``pixel_accuracy``,
    ``mean_dice`` and ``boundary_f1``, the mean over images; how many places are ``unasked``, and
    how many images have no other (``empty``); which images are ``ranked``, see `ranked_rows`.

    Args:
        classes: How many classes there are.
        tiles: How images were looked at.
    """

    def __init__(self, classes: int, tiles: Tiles = WHOLE) -> None:
        self.classes, self.tiles = classes, tiles
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.unasked = torch.zeros((), dtype=torch.int64)
        self.losses, self.boundary = Column(), Column()
        self.index, self.counts = Column(torch.int64), Column(torch.int32)

    def add(self, outputs: Outputs) -> None:
        """Count one batch.

        Raises:
            ValueError: If the outputs are of no places, or not as many as the task's.
        """
        logits, y = exact(outputs.logits), exact(outputs.y)
        if logits.dim() != 4 or logits.shape[1] != self.classes:
            raise ValueError(
                f"a task of {self.classes} classes at every place has outputs (N, {self.classes}, "
                f"h, w) and got {tuple(logits.shape)}: evaluate a network of places"
            )
        self.index.add(outputs.index)
        self.confusion, self.unasked = self.confusion.to(y.device), self.unasked.to(y.device)
        for output, own in zip(logits, own_sizes(y), strict=True):
            self._count(output.float(), own)

    def _count(self, output: Tensor, y: Tensor) -> None:
        """Count one image, of outputs (K, h, w) and a label (H, W) of its own size."""
        guess = torch.empty_like(y, dtype=torch.uint8)
        loss = torch.zeros((), dtype=torch.float64, device=y.device)
        for rows, columns, logits in bands(output, y.shape, self.tiles):
            best, guess[rows, columns] = best_classes(logits)
            loss = loss + summed_loss(logits, best, y[rows, columns])
        pairs = counted_pairs(guess[None], y[None], self.classes)[0]
        asked = pairs.sum()
        self.losses.add((loss / asked.clamp_min(1)).view(1))
        self.confusion += pairs
        self.counts.add(torch.stack([pairs.diagonal(), pairs.sum(1), pairs.sum(0)], 1).flatten())
        f1 = boundary_scores(guess[None], y[None], self.classes, tolerance=TOLERANCE)
        self.boundary.add(f1.float())
        self.unasked += y.numel() - asked

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
                "ranked": ranked_rows(counts, self.index.values().cpu()[order].tolist()),
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


def ranked_rows(counts: NDArray[Any], index: Sequence[int]) -> dict[str, list[tuple[int, float]]]:
    """Give the ``worst`` images and those about the ``median``, by the mean IoU of each alone.

    Each is an index and that score in percent. Images that ask nothing are left out, and none is
    there twice.

    >>> ranked_rows(np.array([[[2, 2, 2]], [[1, 2, 2]]]), [5, 7])
    {'worst': [(7, 33.33333333333333)], 'median': [(5, 100.0)]}
    """
    asked = np.flatnonzero(counts[:, :, 1].sum(1))
    each = 100 * np.nanmean(overlaps(counts[asked])[0], 1)
    order = each.argsort(kind="stable")
    few = min(RANKED, (len(order) + 1) // 2)
    middle = max(few, (len(order) - few) // 2)
    chosen = {"worst": order[:few], "median": order[middle : middle + few]}
    return {
        kind: [(index[asked[at]], float(each[at])) for at in some] for kind, some in chosen.items()
    }


def _percents(shares: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(one) else 100 * float(one) for one in shares)


def _mean(shares: Tensor) -> float | None:
    """Give the mean of those that are numbers, in percent; None where none is."""
    known = shares[~shares.isnan()]
    return 100 * float(known.double().mean()) if len(known) else None
