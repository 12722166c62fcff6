"""The temperature at which a network is as sure as it is right, found on ID validation."""

from __future__ import annotations

import math

from torch import Tensor

from adaptune.selection.defined import finite

COLDEST, HOTTEST = 0.01, 100.0
"""Where the temperature is looked for; a network without an error has its best at absolute zero."""

HALVINGS = 60


def temperature(logits: Tensor, y: Tensor) -> float:
    """Give the T at which softmax(logits / T) has the least cross-entropy with ``y``.

    Logits are (V, K), labels (V,). The loss is convex in 1/T, so halving an interval by the sign of
    its slope finds the minimum. Source: On Calibration of Modern Neural Networks (Guo et al.,
    2017). The bounds, 1/100 and 100, are ours.

    Raises:
        Undefined: If there are no rows or a logit is not finite.

    >>> import torch
    >>> odds = torch.tensor([[2.0, 0.0]]).repeat(4, 1)  # of a class that is right in 3 of 4
    >>> round(temperature(odds, torch.tensor([0, 0, 0, 1])), 4) == round(2 / math.log(3), 4)
    True
    """
    rows = finite(logits, "logits of validation images")
    right = rows.gather(1, y[:, None]).mean()
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = ((rows / math.exp(middle)).softmax(1) * rows).sum(1).mean()
        low, high = (middle, high) if expected > right else (low, middle)
    return math.exp((low + high) / 2)
