"""Linear probing: logistic regression on frozen features, over a path of penalties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.logistic import Regression, softmax_path
from adaptune.ops.principal import BLOCK, Table, blocks, principal_axes
from adaptune.runtime.devices import exact

SMALL = 1 << 27
"""Multiplications of a matrix product below which one thread is enough."""

LEVEL = 0.005
"""Cross-entropies that are no further apart, in nats, count as equal in cross-validation."""

PLACES = 16
"""Places of a row with many that a probe sees, where each has a class of its own."""


@dataclass(frozen=True)
class Probe:
    """The best linear probe: ``weight`` (K, D), ``bias`` (K,), its ``c``, and every C tried."""

    weight: Tensor
    bias: Tensor
    c: float
    path: tuple[tuple[float, float], ...]


def penalties(number: int) -> list[float]:
    """Give values of C from 1e-7 to 1e2, evenly spaced in the logarithm.

    >>> [f"{c:.0e}" for c in penalties(4)]
    ['1e-07', '1e-04', '1e-01', '1e+02']
    """
    return [float(c) for c in np.logspace(-7, 2, number)]


@torch.no_grad()
def linear_probe(
    features: Tensor,
    y: Tensor,
    val_features: Tensor,
    val_y: Tensor,
    *,
    classes: int,
    cs: Sequence[float],
    iterations: int = 200,
    block: int = BLOCK,
) -> Probe:
    """Fit logistic regression for every C and keep the one most accurate on validation features.

    Features (N, D) are normalised by one global mean and deviation, which fold back into the
    probe; ties go to the stronger penalty. A class that no row has keeps a row of zeros whose bias
    lies under every logit seen in training. For each C the minimum is scikit-learn's (for two
    classes too, whose first row is zero), reached in at most ``iterations`` Newton steps: see
    `softmax_path`. All work is done on the device of the features (Apple's has no float64: on the
    CPU), which may be memory-mapped: ``block`` of their values are held in float64 at a time.
    Source: linear probing as in Kumar et al., 2022, with the protocol of Ha, Jeong and Lee, 2024.

    Raises:
        ValueError: If there are fewer than two classes, no validation rows, no C above zero, or
            features that are not finite.

    >>> x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> probe = linear_probe(x, y, x, y, classes=2, cs=[1.0])
    >>> (x @ probe.weight.T + probe.bias).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    features, y, val_features, val_y = map(exact, (features, y, val_features, val_y))
    if len(val_y) == 0:
        raise ValueError("linear probing chooses C on validation images and got none")
    present, labels = torch.unique(y, return_inverse=True)
    if len(present) < 2:
        raise ValueError("linear probing needs training images of two classes or more")
    if not cs or min(cs) <= 0:
        raise ValueError(f"linear probing needs values of C above zero and got {list(cs)}")
    if not all(part.isfinite().all() for part in blocks(val_features, block)):
        raise ValueError("validation features must be finite and some are not")
    with _threads_for(features, len(present)):
        axes = principal_axes(features, block)
        train, val = (Table(rows, axes, len(present)) for rows in (features, val_features))
        regression = Regression(train, labels.to(features.device))
        shared = 2 if len(present) == 2 else 1  # a row of weights costs twice what its halves do
        points = softmax_path(regression, [c / shared for c in cs], steps=iterations)
        path: list[tuple[float, float]] = []
        for c, point in zip(sorted(set(cs)), points, strict=True):
            accuracy = _accuracy(val, point, present, val_y)
            if accuracy > max((a for _, a in path), default=-1.0):
                best, best_c = point, c
            path.append((c, accuracy))
        weight, bias = _folded(train, best, present, classes)
    return Probe(weight.to(features.dtype), bias.to(features.dtype), best_c, tuple(path))


@torch.no_grad()
def cross_validated_probe(
    features: Tensor,
    y: Tensor,
    *,
    classes: int,
    cs: Sequence[float],
    folds: int = 5,
    iterations: int = 200,
) -> Probe:
    """Fit logistic regression to all rows at the C that tells rows left out best.

    Every class's rows, in their order, are dealt to ``folds`` parts; each part is told by what the
    others taught, and the smallest C is taken whose mean cross-entropy lies within `LEVEL` of the
    least: where classes are told apart without error it falls for ever, and weights would grow
    until every answer is certain. Few rows mislead a cross-entropy less than an accuracy, which
    moves by whole rows. For the rest see `linear_probe`; ``path`` holds each C with its
    cross-entropy. Where no class has two rows to tell apart, the smallest C is taken.

    Raises:
        ValueError: If there are fewer than two classes or features that are not finite.

    >>> x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    >>> probe = cross_validated_probe(x, torch.tensor([0, 0, 1, 1]), classes=2, cs=[0.1, 1.0])
    >>> probe.c
    1.0
    """
    features, y = exact(features), exact(y)
    part = _dealt(y, folds)
    cs = sorted(set(cs))
    sums = torch.zeros(len(cs), dtype=torch.float64)
    for left_out in (part == fold for fold in range(folds)):
        if len(y[~left_out].bincount().nonzero()) < 2 or not left_out.any():
            continue
        told, own = features[left_out].double(), y[left_out]
        known = torch.isin(own, y[~left_out])
        fitted = _fitted(features[~left_out], y[~left_out], classes, cs, iterations)
        for number, (weight, bias) in enumerate(fitted):
            logits = told @ weight.double().T + bias.double()
            sums[number] += F.cross_entropy(logits[known], own[known], reduction="sum")
    losses = sums / len(y)
    best = int((losses <= losses.min() + LEVEL).nonzero()[0])
    *_, (weight, bias) = _fitted(features, y, classes, cs[: best + 1], iterations)
    path = tuple(zip(cs, losses.tolist(), strict=True))
    return Probe(weight.to(features.dtype), bias.to(features.dtype), cs[best], path)


def _dealt(y: Tensor, folds: int) -> Tensor:
    """Deal the rows of each class to parts in turn, going on where the last class ended.

    >>> _dealt(torch.tensor([0, 1, 0, 1, 0]), 2).tolist()
    [0, 1, 1, 0, 0]
    """
    part = torch.empty_like(y)
    part[y.argsort(stable=True)] = torch.arange(len(y), device=y.device) % folds
    return part


def _fitted(
    features: Tensor, y: Tensor, classes: int, cs: Sequence[float], iterations: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give weights (K, D) and biases (K,) of raw features for each C, from the smallest on."""
    present, labels = torch.unique(y, return_inverse=True)
    if len(present) < 2:
        raise ValueError("linear probing needs training images of two classes or more")
    shared = 2 if len(present) == 2 else 1
    with _threads_for(features, len(present)):
        train = Table(features, principal_axes(features), len(present))
        regression = Regression(train, labels.to(features.device))
        for point in softmax_path(regression, [c / shared for c in cs], steps=iterations):
            yield _folded(train, point, present, classes)


def _accuracy(val: Table, point: Tensor, present: Tensor, y: Tensor) -> float:
    """Measure how many of all rows a point (K, R + 1) finds the class of."""
    turned = val.turned(point)
    guesses = torch.cat([(block @ turned.T).argmax(1).cpu() for block in val.blocks()])
    return int((present.cpu()[guesses] == y.cpu()).sum()) / len(y)


def _folded(train: Table, point: Tensor, present: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Give weights (K, D) and biases (K,) on raw features, with rows for classes without rows."""
    if len(present) == 2:
        point = point - point[:1]
    else:
        point = torch.cat([point[:, :-1], point[:, -1:] - point[:, -1].mean()], 1)
    lowest = min(float((block @ train.turned(point).T).min()) for block in train.blocks())
    own = train.axes.folded(point[:, :-1])
    weight, bias = own.new_zeros(classes, own.shape[1]), own.new_full((classes,), lowest)
    present = present.to(own.device)
    weight[present], bias[present] = own, point[:, -1] - own @ train.axes.centre
    return weight, bias


@contextmanager
def _threads_for(features: Tensor, classes: int) -> Iterator[None]:
    """Work on one thread where the matrices are so small that threads wait more than they work."""
    threads = torch.get_num_threads()
    if features.numel() * classes < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
