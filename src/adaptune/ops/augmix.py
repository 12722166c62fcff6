"""Images changed by chains of operations that are mixed: AugMix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def augmix(x: Tensor, mean: Sequence[float], std: Sequence[float], severity: int) -> Tensor:
    """Change images (N, C, H, W) that ``mean`` and ``std`` normalised, each by a draw of its own.

    Pixels are found again, rounded to 256 values, and changed by torchvision's AugMix, which draws
    from torch's generator. ``severity`` goes from 1 to 10. Source: AugMix (Hendrycks et al., 2020).

    Raises:
        ValueError: If these are no images of one or three channels.

    >>> changed = augmix(torch.rand(2, 3, 8, 8), [0.5] * 3, [0.5] * 3, 3)
    >>> changed.shape, bool((changed.abs() <= 1).all())
    (torch.Size([2, 3, 8, 8]), True)
    """
    from torchvision.transforms.v2 import AugMix

    if x.dim() != 4 or x.shape[1] not in (1, 3) or len(mean) != x.shape[1]:
        raise ValueError(
            f"AugMix changes images (N, 3, H, W), and these inputs are {tuple(x.shape)}: take a "
            "network that reads images"
        )
    change = AugMix(severity=severity)
    middle, wide = (x.new_tensor(values).view(-1, 1, 1) for values in (mean, std))
    pixels = (x * wide + middle).clamp(0, 1).mul(255).round().to(torch.uint8)
    changed = torch.stack([change(one) for one in pixels])
    return (changed.to(x) / 255 - middle) / wide
