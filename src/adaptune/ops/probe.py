"""Linear probing: logistic regression on frozen features, over a path of penalties."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor


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


def linear_probe(
    features: Tensor,
    y: Tensor,
    val_features: Tensor,
    val_y: Tensor,
    *,
    classes: int,
    cs: Sequence[float],
    iterations: int = 200,
) -> Probe:
    """Fit logistic regression for every C and keep the one most accurate on validation features.

    Features (N, D) are normalised by one global mean and deviation, which fold back into the
    probe. Each C starts from the last one's solution; ties go to the stronger penalty. A class that
    no row has keeps a row of zeros whose bias lies under every logit seen in training. Source:
    linear probing as in Kumar et al., 2022, with the protocol of Ha, Jeong and Lee, 2024.

    Raises:
        ValueError: If there are fewer than two classes, or no validation rows.

    >>> x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]])
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> probe = linear_probe(x, y, x, y, classes=2, cs=[1.0])
    >>> (x @ probe.weight.T + probe.bias).argmax(1).tolist()
    [0, 0, 1, 1]
    """
    if len(val_y) == 0:
        raise ValueError("linear probing chooses C on validation images and got none")
    if len(set(y.tolist())) < 2:
        raise ValueError("linear probing needs training images of two classes or more")
    mean, deviation = features.double().mean(), features.double().std().clamp_min(1e-12)
    x, x_val = (((f.double() - mean) / deviation).numpy() for f in (features, val_features))
    basis = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # the solution lies in the span of the rows: fewer columns suffice
        basis = np.linalg.qr(x.T)[0]
        x, x_val = x @ basis, x_val @ basis
    model = LogisticRegression(max_iter=iterations, warm_start=True)
    path: list[tuple[float, float]] = []
    weight, bias, c = np.empty(0), np.empty(0), 0.0
    for c_now in sorted(cs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=c_now).fit(x, y.numpy())
        accuracy = float((model.predict(x_val) == val_y.numpy()).mean())
        if accuracy > max((a for _, a in path), default=-1.0):
            weight, bias, c = model.coef_ @ basis.T, model.intercept_.copy(), c_now
        path.append((c_now, accuracy))
    if len(model.classes_) == 2:  # one row of differences: the first class scores zero
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    folded = torch.from_numpy(weight) / deviation
    offset = torch.from_numpy(bias) - folded.sum(1) * mean
    lowest = float((features.double() @ folded.T + offset).min())
    full_weight = folded.new_zeros(classes, folded.shape[1])
    full_bias = folded.new_full((classes,), lowest)
    present = torch.from_numpy(model.classes_)
    full_weight[present], full_bias[present] = folded, offset
    kind = features.dtype
    return Probe(full_weight.to(kind), full_bias.to(kind), c, tuple(path))
