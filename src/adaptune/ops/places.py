"""Outputs and labels of places: brought to one grid, compared place by place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.rows import sample_rows

IGNORE = -100
"""What torch's cross-entropy asks nothing of."""

BEYOND = 253
"""What fills up masks of one batch to the size of the largest, below and to the right."""


def on_grid(output: Tensor, size: Sequence[int]) -> Tensor:
    """Bring outputs (N, K, h, w) to a grid (H, W), each place a mean of its nearest four.

    Means weigh by shares that add up to 1, so no output leaves the range of its neighbours. What is
    of that size stays the very tensor.

    >>> on_grid(torch.tensor([[[[0.0, 4.0]]]]), (1, 4)).flatten().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    if output.shape[2:] == tuple(size):
        return output
    return F.interpolate(output, tuple(size), mode="bilinear", align_corners=False)


def place_losses(output: Tensor, y: Tensor) -> Tensor:
    """Give the mean cross-entropy of each row over the places that have a class, (N,).

    Outputs (N, K, h, w) are brought to the grid of ``y`` (N, H, W). Places whose label is no class,
    K or more, do not count; a row of which none counts has the loss 0.

    >>> y = torch.tensor([[[0, 255]], [[255, 255]]])
    >>> place_losses(torch.zeros(2, 2, 1, 2), y)
    tensor([0.6931, 0.0000])
    """
    asked = y < output.shape[1]
    wanted = torch.where(asked, y.long(), IGNORE)
    logits = on_grid(output, y.shape[1:])
    each = F.cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="none")
    return each.flatten(1).sum(1) / asked.flatten(1).sum(1).clamp_min(1)


def own_sizes(y: Tensor) -> Iterator[Tensor]:
    """Give each label of a batch (N, H, W) without what fills it up (`BEYOND`).

    >>> [one.shape for one in own_sizes(torch.tensor([[[1, 2]], [[1, BEYOND]]]))]
    [torch.Size([1, 2]), torch.Size([1, 1])]
    """
    down, across = (y[:, :, 0] != BEYOND).sum(1), (y[:, 0] != BEYOND).sum(1)
    for one, height, width in zip(y, down.tolist(), across.tolist(), strict=True):
        yield one[:height, :width]


def best_classes(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Give the largest output of every place (K, ...) and its class as uint8, of equals the first.

    On the CPU torch's own argmax over the first axis takes several times as long.

    >>> best_classes(torch.tensor([[0.0, 2.0], [1.0, 2.0]]))
    (tensor([1., 2.]), tensor([1, 0], dtype=torch.uint8))
    """
    if logits.device.type != "cpu":
        best, kind = logits.max(0)
        return best, kind.to(torch.uint8)
    best = logits[0].clone()
    kind = torch.zeros_like(best, dtype=torch.uint8)
    for number, one in enumerate(logits[1:], start=1):
        torch.maximum(kind, (one > best).view(torch.uint8) * number, out=kind)
        torch.maximum(best, one, out=best)
    return best, kind


def summed_loss(logits: Tensor, best: Tensor, y: Tensor) -> Tensor:
    """Add up the cross-entropy of logits (K, ...), whose largest are known, where y (...) asks.

    >>> summed_loss(torch.zeros(2, 2), torch.zeros(2), torch.tensor([1, 255])).item()
    0.6931471824645996
    """
    asked = y < len(logits)
    own = logits.gather(0, torch.where(asked, y, 0).long()[None])[0]
    each = (logits - best).exp_().sum(0).log_() + best - own
    return torch.where(asked, each, 0).sum(dtype=torch.float64)


def counted_pairs(guess: Tensor, y: Tensor, classes: int) -> Tensor:
    """Count for each row which classes (N, H, W) were taken for which: (N, K, K), truth first.

    >>> counted_pairs(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    count, cells = len(y), classes * classes
    row = torch.arange(count, device=y.device).view(-1, 1, 1)
    cell = (row * classes + y.long()).mul_(classes).add_(guess)
    cell = cell.masked_fill_(y >= classes, count * cells).flatten()
    return torch.bincount(cell, minlength=count * cells + 1)[:-1].view(count, classes, classes)


def labelled_rows(
    features: Tensor, y: Tensor, classes: int, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Give features (M, D) and labels (M,) of at most ``most`` places a row, and each one's row.

    Places of features (N, D, h, w) are spread evenly (`sample_rows`); the label of one is that at
    its centre in ``y`` (N, H, W), and places without a class are left out. Rows (N, D) stay.

    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> [one.tolist() for one in labelled_rows(x, torch.tensor([[[0, 1], [255, 1]]]), 2, most=4)]
    [[[0.0], [1.0], [3.0]], [0, 1, 1], [0, 0, 0]]
    """
    row = torch.arange(len(y), device=y.device)
    if features.dim() == 2:
        return features, y, row
    near = F.interpolate(y.unsqueeze(1).float(), features.shape[2:], mode="nearest-exact")
    labels = sample_rows(near, most).squeeze(1).long()
    chosen = labels < classes
    row = row.repeat_interleave(len(labels) // max(1, len(y)))
    return sample_rows(features, most)[chosen], labels[chosen], row[chosen]


def boundary_scores(guess: Tensor, y: Tensor, classes: int, *, tolerance: float) -> Tensor:
    """Score how well boundaries between classes (N, H, W) are met: one F1 a row (N,), 0 to 1.

    A boundary place of a class has another class right beside it, above or below; where either has
    no label there is none. Precision is the share of a class's predicted boundary that lies within
    a distance of its true one, recall the reverse, and the row's score is the mean of their F1 over
    the classes that have a boundary in either. The distance is ``tolerance`` times the diagonal,
    at least 1 place, which is ours. NaN where no class has a boundary. Source: Csurka, Larlus and
    Perronnin, 2013, whose tolerance is 0.0075.

    >>> y = torch.zeros(1, 4, 4, dtype=torch.int64)
    >>> y[:, :, 2:] = 1
    >>> float(boundary_scores(y, y, 2, tolerance=0.0075))
    1.0
    """
    size = (int(y.shape[1]), int(y.shape[2]))
    square = int(max(1.0, tolerance**2 * (size[0] ** 2 + size[1] ** 2)))
    grid = _Grid(len(y), classes, size, math.isqrt(square))
    asked = y < classes
    said, true = (grid.boundary(one, asked) for one in (guess, y))
    found, wanted = grid.met(said, true, square), grid.met(true, said, square)
    precision, recall = (met / count.clamp_min(1) for count, met in (found, wanted))
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    there = (found[0] + wanted[0]) > 0
    return (f1 * there).sum(1) / there.sum(1)


@dataclass(frozen=True)
class _Grid:
    """Numbers of places (row, class, down, right) with a rim, so that near numbers are near places.

    Boundaries are few, and their sorted numbers tell what lies near a place by a search a line.
    """

    rows: int
    classes: int
    size: tuple[int, int]
    rim: int

    @property
    def stride(self) -> int:
        """How many numbers a line has."""
        return self.size[1] + 2 * self.rim

    @property
    def cell(self) -> int:
        """How many numbers a class of a row has."""
        return (self.size[0] + 2 * self.rim) * self.stride

    def boundary(self, labels: Tensor, asked: Tensor) -> Tensor:
        """Give the sorted numbers of the boundary places of labels (N, H, W)."""
        edge = torch.zeros_like(asked)
        for axis in (1, 2):
            size = labels.shape[axis] - 1
            one, other = (torch.narrow(labels, axis, at, size) for at in (0, 1))
            apart = one != other
            for at in (0, 1):
                apart &= torch.narrow(asked, axis, at, size)
            for at in (0, 1):
                torch.narrow(edge, axis, at, size).logical_or_(apart)
        row, down, right = edge.nonzero(as_tuple=True)
        kind = labels[row, down, right].long()
        line = (row * self.classes + kind) * (self.cell // self.stride) + down + self.rim
        return (line * self.stride + right + self.rim).sort().values

    def met(self, places: Tensor, others: Tensor, square: int) -> tuple[Tensor, Tensor]:
        """Count places by row and class, and those with another of it near: (N, K) each.

        Near is a squared distance of at most ``square``.
        """
        others = torch.cat([others, others.new_full((1,), torch.iinfo(torch.int64).max)])
        alone = places
        for down in sorted(range(-self.rim, self.rim + 1), key=abs):
            if not len(alone):
                break
            right = math.isqrt(square - down**2)
            first = alone + (down * self.stride - right)
            near = others[torch.searchsorted(others, first)] <= first + 2 * right
            alone = alone[~near]
        cells = self.rows * self.classes
        count, left = (
            torch.bincount(one // self.cell, minlength=cells).view(self.rows, -1).double()
            for one in (places, alone)
        )
        return count, count - left
