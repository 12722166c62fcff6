"""A step of gradient descent that gradients flow through."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel


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


def after_step(net: nn.Module, loss: Tensor, x: Tensor, rate: float) -> Tensor:
    """Give what a network says of inputs after one step down a ``loss`` of what learns in it.

    Gradients flow through the step. Weights and buffers of the network stay.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> net.load_state_dict({"weight": torch.ones(1, 1)})
    <All keys matched successfully>
    >>> after_step(net, net(torch.ones(1, 1)).sum(), torch.ones(1, 1), 0.25).item()
    0.75
    """
    own = {name: one for name, one in net.named_parameters() if one.requires_grad}
    moved = stepped(loss, own, rate)
    return functional_call(net, moved, (x,))  # type: ignore[no-any-return]


def twice_differentiable() -> AbstractContextManager[None]:
    """Let attention be computed in the way that has a second derivative, for a while.

    >>> with twice_differentiable():
    ...     pass
    """
    kept: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return kept
