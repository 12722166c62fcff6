"""Outputs and labels of places: brought to one grid, compared place by place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.rows import sample_rows

IGNORE = -100
"""What torch's cross-entropy asks nothing of."""


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


def counted_pairs(guess: Tensor, y: Tensor, classes: int) -> Tensor:
    """Count for each row which classes (N, H, W) were taken for which: (N, K, K), truth first.

    >>> counted_pairs(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    count, cells = len(y), classes * classes
    row = torch.arange(count, device=y.device).view(-1, 1, 1)
    cell = (row * classes + y.long()) * classes + guess
    cell = torch.where(y < classes, cell, count * cells).flatten()
    counts = torch.zeros(count * cells + 1, dtype=torch.int64, device=y.device)
    counts.scatter_add_(0, cell, torch.ones_like(cell))
    return counts[:-1].view(count, classes, classes)


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
    height, width = y.shape[1:]
    asked = y < classes
    reach = max(1.0, tolerance * (height**2 + width**2) ** 0.5)
    said, true = (_edges(one.long(), asked) for one in (guess, y))
    found, wanted = _met(said, true, classes, reach), _met(true, said, classes, reach)
    precision, recall = (met / count.clamp_min(1) for count, met in (found, wanted))
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    there = (found[0] + wanted[0]) > 0
    return (f1 * there).sum(1) / there.sum(1)


def _edges(labels: Tensor, asked: Tensor) -> Tensor:
    """Give the class of each boundary place, -1 elsewhere."""
    edge = torch.zeros_like(asked)
    for axis in (1, 2):
        size = labels.shape[axis] - 1
        one, other = (torch.narrow(labels, axis, at, size) for at in (0, 1))
        both = torch.narrow(asked, axis, 0, size) & torch.narrow(asked, axis, 1, size)
        apart = (one != other) & both
        torch.narrow(edge, axis, 0, size).logical_or_(apart)
        torch.narrow(edge, axis, 1, size).logical_or_(apart)
    return torch.where(edge, labels, -1)


def _met(edges: Tensor, others: Tensor, classes: int, reach: float) -> tuple[Tensor, Tensor]:
    """Count boundary places by row and class, and those near others of their class: (N, K) each.

    Boundaries are few, so that looking at all places near each is cheap.
    """
    wide = int(reach)
    padded = F.pad(others, (wide,) * 4, value=-1)
    stride = padded.shape[2]
    row, top, left = (edges >= 0).nonzero(as_tuple=True)
    kind = edges[row, top, left]
    at = (row * padded.shape[1] + top + wide) * stride + left + wide
    near = torch.zeros_like(kind, dtype=torch.bool)
    flat = padded.flatten()
    for down in range(-wide, wide + 1):
        for right in range(-wide, wide + 1):
            if down**2 + right**2 <= reach**2:
                near |= flat[at + down * stride + right] == kind
    cell = row * classes + kind
    size = len(edges) * classes
    counts = (torch.bincount(cell, minlength=size), torch.bincount(cell[near], minlength=size))
    count, met = (one.view(len(edges), classes).double() for one in counts)
    return count, met
