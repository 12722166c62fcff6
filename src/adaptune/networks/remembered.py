"""What labelled embeddings say of others: the nearer, the more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import read_linear


class Remembered(nn.Module):
    """Labelled embeddings, whose classes count by how near they are: ``a exp(-b (1 - cosine))``.

    Source: Tip-Adapter (Zhang et al., 2022).

    Args:
        rows: How many there are.
        width: How long they are, E.
        classes: How many classes there are, K.
        share: What they count beside the texts, a.
        sharpness: How fast they count less with distance, b.

    >>> Remembered(4, 3, 2, 1.0, 5.5)(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    y: Tensor

    def __init__(self, rows: int, width: int, classes: int, share: float, sharpness: float) -> None:
        super().__init__()
        self.classes, self.share, self.sharpness = classes, share, sharpness
        self.keys = nn.Parameter(torch.zeros(rows, width))
        self.register_buffer("y", torch.zeros(rows, dtype=torch.int64))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Give what is added to the logits of embeddings (N, E, ...) of length 1: (N, K, ...)."""
        near = (self.sharpness * (read_linear(embeddings, self.keys, None) - 1)).exp()
        own = F.one_hot(self.y, self.classes).to(near.dtype)
        return self.share * read_linear(near, own.T, None)
