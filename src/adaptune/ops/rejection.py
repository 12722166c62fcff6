"""Which predictions mean unknown in an open set, where nobody says from which uncertainty on."""

from __future__ import annotations

from torch import Tensor

from adaptune.ops.information import keeping

UNKNOWN_ABOVE = 0.55
"""The threshold of Qu et al., 2023, for networks of which nothing else is known."""

KEPT = 0.95
"""The share of ID validation images that are to stay known."""


def calibrate_threshold(logits: Tensor) -> float:
    """Give the least threshold under which ID validation images (N, K) stay known, all but 5%.

    >>> import torch
    >>> calibrate_threshold(torch.tensor([[9.0, 0.0], [1.0, 0.0]]))
    0.84
    """
    return keeping(logits, KEPT)


def describe_threshold(threshold: float, images: int) -> str:
    """Say which images are unknown, and by how many validation images that was found, if by any.

    >>> describe_threshold(0.55, 0)
    'predictions mean unknown above an uncertainty of 0.55'
    """
    why = f", the least that keeps {KEPT:.0%} of {images} ID validation images known"
    return f"predictions mean unknown above an uncertainty of {threshold:.4g}{why * bool(images)}"
