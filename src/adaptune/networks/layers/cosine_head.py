"""A head that reads directions of features, by those of its classes."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, need_raw, read_linear


class CosineHead(Head):
    """Cosines of features (N, D, ...) with the rows of ``weight`` (K, D), times ``scale``.

    >>> import torch
    >>> head = CosineHead(torch.tensor([[2.0, 0.0], [0.0, 5.0]]), scale=30.0)
    >>> head(torch.tensor([[3.0, 4.0]])), head.cosines(torch.tensor([[3.0, 4.0]])).tolist()
    (tensor([[18., 24.]], grad_fn=<MulBackward0>), [[0.6000000238418579, 0.800000011920929]])
    """

    def __init__(self, weight: Tensor, scale: float) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(weight.detach().clone()), scale

    def cosines(self, features: Tensor, *, held: bool = False) -> Tensor:
        """Give the cosines alone; if they are ``held``, no gradient goes to the head."""
        weight = self.weight.detach() if held else self.weight
        return read_linear(F.normalize(features, dim=1), F.normalize(weight, dim=1), None)

    def forward(self, features: Tensor) -> Tensor:
        """Read features (N, D, ...): logits (N, K, ...)."""
        return self.scale * self.cosines(features)

    def fold(self) -> Self:
        """Give itself, which reads raw features."""
        return self


def cosine_head(body: nn.Module, head: Head, *, scale: float) -> tuple[nn.Module, CosineHead]:
    """Read directions in place of a linear head, beginning with its weight: a surgery.

    Raises:
        ValueError: If the scale is none, or the head is not linear.
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"the scale of cosines is a number above 0: got {scale}")
    return body, CosineHead(need_raw(head, "a head of cosines").weight, scale)
