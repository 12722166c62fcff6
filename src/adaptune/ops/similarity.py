"""How well features that a network has suit labels that it never saw."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor


def parc(features: Tensor, y: Tensor) -> float:
    """Say how alike rows are far apart in features (N, D) and in labels (N,): from -1 to 1.

    It is Spearman's correlation over pairs of rows between one minus Pearson's correlation of their
    features, each feature at mean 0 and deviation 1, and the same of their labels, one-hot. Of
    fewer than three rows, of rows all alike or of one class it is 0. Source: Scalable Diverse Model
    Selection for Accessible Transfer Learning (Bolya et al., 2021), without its reduction by
    principal components.

    >>> y = torch.tensor([0, 0, 1, 1, 2, 2])
    >>> round(parc(F.one_hot(y).double(), y), 6)
    1.0
    """
    labels = F.one_hot(torch.unique(y, return_inverse=True)[1]).double()
    rows = features.detach().double().cpu()
    rows = (rows - rows.mean(0)) / rows.std(0, correction=0).clamp_min(1e-12)
    above = np.triu_indices(len(rows), 1)
    apart = [_apart(one).numpy()[above] for one in (rows, labels.cpu())]
    if len(rows) < 3 or any(np.ptp(one) < 1e-9 for one in apart):
        return 0.0
    found, _ = spearmanr(*(one.round(9) for one in apart))
    return float(found)


def _apart(rows: Tensor) -> Tensor:
    """Give one minus the correlation of each row with each other, (N, N)."""
    middle = F.normalize(rows - rows.mean(1, keepdim=True))
    return 1 - middle @ middle.T
