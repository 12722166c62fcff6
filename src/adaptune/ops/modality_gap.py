"""How far embeddings of one kind lie from those of another."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def modality_gap(ours: Tensor, theirs: Tensor) -> float:
    """Give the distance of the means of embeddings (N, E) and (M, E), all of length 1: 0 to 2.

    Source: Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation
    Learning (Liang et al., 2022).

    >>> round(modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.6, -0.8]])), 4)
    0.4
    """
    return float((ours.double().mean(0) - theirs.double().mean(0)).norm())
