"""What selection may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from adaptune.selection.defined import finite
from adaptune.selection.ratio import density_ratio
from adaptune.selection.temperature import temperature
from adaptune.types import Outputs

NO_FEATURES = torch.empty(0, 0)
"""Features that nobody looked at."""

NO_SHIFTS = torch.empty(0)
"""Accuracies under shifts that nobody made."""


@dataclass(frozen=True)
class Evidence:
    """What may be known of a network and a target domain without target labels.

    ``logits`` (N, K) and ``features`` (N, D) of target images, ``weight`` (K, D) of the head that
    reads the features, ``val`` the outputs on ID validation, ``train_features`` (M, D) of the
    source's training images or of a sample of them, ``before`` (N, D) what the network that
    training began with makes of the same target images, where that is known. ``shifted`` gives the
    accuracies in percent on validation images under each family of made shifts (F,), where these
    can be made; it looks through the network when it is called. What several scores need is worked
    out once, at the first use.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    logits: Tensor
    features: Tensor
    weight: Tensor
    val: Outputs
    train_features: Tensor
    before: Tensor = NO_FEATURES
    shifted: Callable[[], Tensor] = lambda: NO_SHIFTS  # noqa: E731

    def __post_init__(self) -> None:
        (rows, classes), width = self.logits.shape, self.features.shape[-1]
        expected = {
            "features": (self.features, (rows, width)),
            "weight": (self.weight, (classes, width)),
            "val.logits": (self.val.logits, (len(self.val.y), classes)),
            "val.features": (self.val.features, (len(self.val.y), width)),
            "train_features": (self.train_features, (len(self.train_features), width)),
        }
        if len(self.before):
            expected["before"] = (self.before, (rows, width))
        for name, (given, shape) in expected.items():
            if given.shape != shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}, expected {shape}")

    @cached_property
    def predictions(self) -> Tensor:
        """The softmax of the target's logits, float64 (N, K)."""
        return finite(self.logits, "logits of target images").softmax(1)

    @cached_property
    def val_predictions(self) -> Tensor:
        """The softmax of the logits on ID validation, float64 (V, K)."""
        return finite(self.val.logits, "logits of validation images").softmax(1)

    @cached_property
    def calibrated(self) -> Evidence:
        """The same network at the temperature that makes it as sure as it is right at home."""
        heat = temperature(self.val.logits, self.val.y)
        val = replace(self.val, logits=self.val.logits.double() / heat)
        return replace(self, logits=self.logits.double() / heat, val=val)

    @cached_property
    def ratio(self) -> Tensor:
        """How much likelier each validation image is in the target than in the source, (V,)."""
        return density_ratio(self.train_features, self.features, self.val.features)
