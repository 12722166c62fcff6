"""The overlap of predictions and labels as a loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adaptune.ops.places import on_grid

SMOOTH = 1e-5
"""What keeps a class that is neither there nor predicted at a loss of 0."""


def dice_losses(output: Tensor, y: Tensor) -> Tensor:
    """Give one minus the mean over classes of the soft Dice coefficient of each row, (N,).

    Outputs (N, K, h, w) are brought to the grid of ``y`` (N, H, W); places whose label is no class,
    K or more, do not count. Source: nnU-Net, Isensee et al., 2021, with all classes in the mean.

    >>> import torch
    >>> sure = torch.tensor([[[[99.0, -99.0]], [[-99.0, 99.0]]]])
    >>> [round(float(dice_losses(sure, torch.tensor([[y]]))), 3) for y in ([0, 1], [1, 0])]
    [0.0, 1.0]
    """
    classes = output.shape[1]
    asked = (y < classes).unsqueeze(1)
    chances = on_grid(output, y.shape[1:]).softmax(1) * asked
    truth = F.one_hot(y.long().clamp(0, classes - 1), classes).movedim(-1, 1) * asked
    met, both = (one.flatten(2).sum(2) for one in (chances * truth, chances + truth))
    return 1 - ((2 * met + SMOOTH) / (both + SMOOTH)).mean(1)
