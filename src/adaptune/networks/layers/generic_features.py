"""Features of a second, frozen encoder beside a body's own, both read by one head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, Readout, need_raw

MOST_UNITS, MOST_SIZE = 65536, 8192


class GenericFeatures(nn.Module):
    """A body's features (N, D, h, w) with those of a frozen encoder behind them, (N, D + U, h, w).

    Images, as the body wants them, are scaled as the encoder wants them (``x * scale + shift``, by
    channel) and to a square of ``size`` pixels; what it sees is brought to the body's grid
    (bilinear), read by a layer of U ``units`` and a ReLU, the adaptor, which learns. Batch norms of
    the encoder are frozen layers, found by nothing that looks for batch norms.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        body: nn.Module,
        encoder: nn.Module,
        *,
        units: int,
        size: int,
        scale: Sequence[float],
        shift: Sequence[float],
    ) -> None:
        super().__init__()
        self.body, self.size = body, size
        self.encoder = encoder.eval().requires_grad_(False)
        self.width = int(encoder.num_features)  # type: ignore[arg-type]
        self.adaptor = nn.Sequential(nn.Conv2d(self.width, units, 1), nn.ReLU())
        for name, value in (("scale", scale), ("shift", shift)):
            numbers = torch.tensor([float(one) for one in value]).view(-1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Switch modes; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give both kinds of features on the body's grid."""
        features = self.body(x)
        maps = F.interpolate(
            self.generic(x), features.shape[2:], mode="bilinear", align_corners=False
        )
        return torch.cat([features, self.adaptor(maps)], 1)

    def take_encoder(self, other: nn.Module) -> None:
        """Take the weights of an encoder whose batch norms may not be frozen yet."""
        from timm.layers import freeze_batch_norm_2d

        self.encoder.load_state_dict(freeze_batch_norm_2d(other).state_dict())

    @torch.no_grad()
    def generic(self, x: Tensor) -> Tensor:
        """Give what the encoder sees, (N, C, h, w) on its own grid."""
        square = (self.size, self.size)
        seen = F.interpolate(x, square, mode="bilinear", align_corners=False)
        encoder: Any = self.encoder
        found: Tensor = encoder.forward_features(seen * self.scale + self.shift)
        if found.dim() == 3:  # tokens, those of no place first
            found = found[:, encoder.num_prefix_tokens :].transpose(1, 2)
            side = math.isqrt(found.shape[2])
            return found.reshape(*found.shape[:2], side, side)
        return found if found.shape[1] == self.width else found.movedim(-1, 1)


def frozen_encoder(name: str, size: int) -> nn.Module:
    """Build a timm model without head and with random weights, its batch norms frozen layers.

    Raises:
        ValueError: If timm has no such model.
    """
    import timm
    from timm.layers import freeze_batch_norm_2d

    if not timm.is_model(name):
        raise ValueError(f"timm has no model named {name!r} to see generic features with")
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    options = {"img_size": size} if fixed else {}
    model: nn.Module = freeze_batch_norm_2d(timm.create_model(name, num_classes=0, **options))
    return model


def generic_features(
    body: nn.Module,
    head: Head,
    *,
    encoder: str,
    units: int,
    size: int,
    scale: list[float],
    shift: list[float],
) -> tuple[nn.Module, Readout]:
    """Put a frozen timm ``encoder`` beside a body, and let the head read both: a surgery.

    What the head asks of generic features is zero at first, so that nothing changes.

    Raises:
        ValueError: If sizes are beyond belief, the encoder is unknown or the head is not linear.
    """
    if not (0 < units <= MOST_UNITS and 0 < size <= MOST_SIZE and len(scale) == len(shift) == 3):
        raise ValueError("generic features have units, a size and three scales and shifts")
    old = need_raw(head, "a head of generic features")
    wide = GenericFeatures(
        body, frozen_encoder(encoder, size), units=units, size=size, scale=scale, shift=shift
    )
    made = Readout(old.in_features + units, old.out_features)
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : old.in_features] = old.weight
        made.bias.copy_(old.bias)
    wide.adaptor.to(old.weight)
    return wide.train(body.training), made.to(old.weight)
