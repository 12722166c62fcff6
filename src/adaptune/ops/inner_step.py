"""A step of gradient descent that gradients flow through."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def stepped(loss: Tensor, weights: Mapping[str, Tensor], rate: float | Tensor) -> dict[str, Tensor]:
    """Give weights, by name, after one step of gradient descent down a ``loss`` of them.

    Gradients flow through it, to what the weights were. A weight that the loss does not know stays.
    Source: MAML (Finn et al., 2017).

    >>> w = torch.tensor(3.0, requires_grad=True)
    >>> moved = stepped(w**2, {"w": w}, 0.25)["w"]
    >>> moved.item(), torch.autograd.grad(moved, w)[0].item()
    (1.5, 0.5)
    """
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
    return {
        name: one if slope is None else one - rate * slope
        for (name, one), slope in zip(weights.items(), slopes, strict=True)
    }
