"""A body's features brought into a space of another width, where all have length one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw

MOST_UNITS = 65536

SLOPE = 0.2
"""How much of what is below zero passes."""


class CommonSpace(nn.Module):
    """A body's features (N, D) in a space of U ``units``, (N, U), each of length 1.

    They are divided by their length, read by a linear layer, the projector, and a leaky ReLU, and
    divided by the length of what comes.

    >>> import torch
    >>> found = CommonSpace(nn.Identity(), width=3, units=5)(torch.randn(2, 3))
    >>> found.shape, bool(torch.allclose(found.norm(dim=1), torch.ones(2)))
    (torch.Size([2, 5]), True)
    """

    def __init__(self, body: nn.Module, *, width: int, units: int) -> None:
        super().__init__()
        self.body, self.projector = body, nn.Linear(width, units)

    def forward(self, x: Tensor) -> Tensor:
        """Give the features of images in the common space."""
        features = F.normalize(self.body(x), dim=1)
        return F.normalize(F.leaky_relu(self.projector(features), SLOPE), dim=1)


def common_space(body: nn.Module, head: Head, *, units: int) -> tuple[nn.Module, Readout]:
    """Put a projector behind a body, and a new head of its ``units``: a surgery.

    Raises:
        ValueError: If there are no units, more than can be believed, or the head is not linear.
    """
    if not 0 < units <= MOST_UNITS:
        raise ValueError(f"a common space has 1 to {MOST_UNITS} units: got {units}")
    old = need_raw(head, "a common space")
    made = Readout(units, old.out_features)
    wide = CommonSpace(body, width=old.in_features, units=units)
    wide.projector.to(old.weight)
    return wide.train(body.training), made.to(old.weight)
