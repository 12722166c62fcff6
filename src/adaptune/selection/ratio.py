"""How much likelier features are in the target than in the source, told by a classifier."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from adaptune.selection.defined import finite

PENALTIES = tuple(10.0**power for power in range(-6, 1))
"""The values of C that are tried, the strongest penalty first."""

HELD_OUT = 0.3
"""The share of each domain that chooses the penalty."""


def density_ratio(source: Tensor, target: Tensor, points: Tensor, *, seed: int = 0) -> Tensor:
    """Estimate p_target(x) / p_source(x) at each row of ``points`` (V, D), as float64 (V,).

    Logistic regression tells ``source`` (M, D) from ``target`` (N, D); by Bayes' rule the ratio is
    M/N times its odds of the target (Bickel, Brückner and Scheffer, 2007). Features are
    standardised over both domains. The penalty is the one with the lowest log-loss on held-out
    rows: log-loss rewards odds that are right and not only on the right side, and where the domains
    cannot be told apart it chooses the strongest penalty, under which the ratio is one.

    Raises:
        Undefined: If a domain has fewer than two rows or an entry is not finite.

    >>> x = torch.arange(40.0).reshape(20, 2)
    >>> density_ratio(x, x, x[:2]).round(decimals=3).tolist()
    [1.0, 1.0]
    """
    source = finite(source, "features of source images", rows=2)
    target = finite(target, "features of target images", rows=2)
    at = finite(points, "features of validation images")
    rows, at = shared_coordinates(torch.cat([source, target]), at)
    x = rows.numpy()
    is_target = np.arange(len(x)) >= len(source)
    model = fit_logistic(LogisticRegression(C=best_penalty(x, is_target, seed)), x, is_target)
    log_odds = torch.from_numpy(model.decision_function(at.numpy()))
    return len(source) / len(target) * log_odds.exp()


def shared_coordinates(rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Standardise both by the rows, then turn them into the rows' span where that is smaller.

    The turn leaves logistic regression with a ridge penalty alone: its weight lies in that span.

    >>> rows, points = shared_coordinates(torch.randn(3, 9), torch.randn(5, 9))
    >>> rows.shape, points.shape
    (torch.Size([3, 3]), torch.Size([5, 3]))
    """
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation[deviation <= 1e-9 * mean.abs()] = 1  # a constant, up to rounding
    rows, points = (rows - mean) / deviation, (points - mean) / deviation
    if rows.shape[1] <= len(rows):
        return rows, points
    basis, triangle = torch.linalg.qr(rows.T)
    return triangle.T.contiguous(), points @ basis


def best_penalty(x: NDArray[np.float64], is_target: NDArray[np.bool_], seed: int) -> float:
    """Give the C of lowest log-loss on held-out rows; the path ends where the loss has risen.

    >>> import numpy as np
    >>> apart = np.arange(40.0)[:, None] - 19.5
    >>> best_penalty(apart, np.arange(40) >= 20, seed=0) > PENALTIES[0]
    True
    """
    held = hold_out(is_target, seed)
    model = LogisticRegression(warm_start=True)
    best, lowest = PENALTIES[0], np.inf
    for c in PENALTIES:
        fit_logistic(model.set_params(C=c), x[~held], is_target[~held])
        toward = np.where(is_target[held], 1.0, -1.0) * model.decision_function(x[held])
        loss = float(np.logaddexp(0.0, -toward).mean())
        if loss >= lowest:
            break
        best, lowest = c, loss
    return best


def hold_out(is_target: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Mark the same share of each domain's rows, at least one and never all of them.

    >>> import numpy as np
    >>> int(hold_out(np.arange(30) >= 10, seed=0)[:10].sum())
    3
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(is_target), dtype=np.bool_)
    for domain in (False, True):
        own = random.permutation(np.flatnonzero(is_target == domain))
        held[own[: max(1, int(HELD_OUT * len(own)))]] = True
    return held


def fit_logistic(model: Any, x: NDArray[np.float64], is_target: NDArray[np.bool_]) -> Any:
    """Fit a logistic regression and give it back; a path that stops early is as good.

    >>> import numpy as np
    >>> rows, target = np.array([[0.0], [1.0]]), np.array([False, True])
    >>> model = fit_logistic(LogisticRegression(), rows, target)
    >>> bool(model.decision_function([[2.0]])[0] > 0)
    True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, is_target)
