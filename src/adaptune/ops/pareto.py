"""Weights of several losses by a linear programme over their gradients."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor


def pareto_weights(products: Tensor, guide: Tensor, *, guided: bool) -> Tensor:
    """Weigh losses so that a step raises none of them and follows a guide: (T,), from 0, sum 1.

    ``products`` (T, T) are the inner products of the losses' gradients, ``guide`` (T,) those with
    the gradient of a loss that is only looked at. While it is ``guided``, the step goes down the
    guide as fast as it may: the loss that is nearest to the guide is not raised, and what points
    away from the guide is raised by no more than it does so. Otherwise all losses together fall as
    fast as may be, none is raised, and the guide is kept. Where that cannot be, all losses fall
    without the guide, which always can. Source: Pareto Domain Adaptation (Lv et al., 2021), after
    the exact Pareto search of Mahapatra and Rajan (2020).

    >>> apart = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    >>> pareto_weights(apart, torch.tensor([1.0, -0.2]), guided=True)
    tensor([0.8000, 0.2000])
    """
    scale = max(float(products.abs().max()), float(guide.abs().max()))
    if not scale > 0:
        return torch.full_like(guide, 1 / len(guide))
    crossed, along = (one.detach().cpu().double().numpy() / scale for one in (products, guide))
    programmes = [_following(crossed, along) if guided else _falling(crossed, along)]
    programmes.append((crossed.sum(0), crossed, np.zeros(len(along))))
    for gain, rows, least in programmes:
        found = linprog(
            -gain, A_ub=-rows, b_ub=SLACK - least, A_eq=np.ones((1, len(gain))), b_eq=[1.0]
        )
        if found.success:
            weights = torch.from_numpy(found.x).clamp_min(0)
            return (weights / weights.sum()).to(guide)
    return torch.full_like(guide, 1 / len(guide))


SLACK = 1e-9
"""What a bound may be missed by, as a share of the largest product: the solver's own error."""

Programme = tuple["np.ndarray", "np.ndarray", "np.ndarray"]
"""What is to be large (T,), and rows (R, T) whose values are to be at least (R,)."""


def _following(crossed: np.ndarray, along: np.ndarray) -> Programme:
    """Go down the guide."""
    least = np.minimum(along, 0.0)
    bound = along <= 0
    if not bound.all():
        bound[along.argmax()] = True
    else:
        least[:] = 0.0
    return along, crossed[bound], least[bound]


def _falling(crossed: np.ndarray, along: np.ndarray) -> Programme:
    """Go down all losses, and keep to the guide as far as one of them does."""
    least = np.append(np.zeros(len(along)), min(0.0, along.max()))
    return crossed.sum(0), np.vstack([crossed, along]), least
