"""What selection may look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from adaptune.selection.defined import finite
from adaptune.selection.ratio import density_ratio
from adaptune.types import Outputs


@dataclass(frozen=True)
class Evidence:
    """What may be known of a network and a target domain without target labels.

    ``logits`` (N, K) and ``features`` (N, D) of target images, ``weight`` (K, D) of the head that
    reads the features, ``val`` the outputs on ID validation, ``train_features`` (M, D) of the
    source's training images or of a sample of them. What several scores need is worked out once,
    at the first use.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    logits: Tensor
    features: Tensor
    weight: Tensor
    val: Outputs
    train_features: Tensor

    def __post_init__(self) -> None:
        (rows, classes), width = self.logits.shape, self.features.shape[-1]
        expected = {
            "features": (self.features, (rows, width)),
            "weight": (self.weight, (classes, width)),
            "val.logits": (self.val.logits, (len(self.val.y), classes)),
            "val.features": (self.val.features, (len(self.val.y), width)),
            "train_features": (self.train_features, (len(self.train_features), width)),
        }
        for name, (given, shape) in expected.items():
            if given.shape != shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}, expected {shape}")

    @cached_property
    def predictions(self) -> Tensor:
        """The softmax of the target's logits, float64 (N, K)."""
        return finite(self.logits, "logits of target images").softmax(1)

    @cached_property
    def ratio(self) -> Tensor:
        """How much likelier each validation image is in the target than in the source, (V,)."""
        return density_ratio(self.train_features, self.features, self.val.features)
