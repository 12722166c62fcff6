"""One class at every place of an image: cross-entropy trains, the mean IoU counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from torch import Tensor

from adaptune.metrics.places import PlaceTally
from adaptune.ops.places import place_losses
from adaptune.ops.windows import Tiles
from adaptune.tasks.task import LabelKind, Labelling


@dataclass(frozen=True)
class Segmentation(Labelling):
    """Labelling of every place with one of ``classes``, learnt from ``domains`` labelled domains.

    Outputs (N, K, h, w) are brought to the grid of the masks (N, H, W) by bilinear interpolation.
    Places whose label is no class are ignored.

    The bound of the curvature is that of one prediction (`Labelling`): a logit of the finer grid is
    a mean of logits, so it is that of a mean of features, whose outer product is at most the mean
    of the features' own; and a loss that is a mean over places is bent no more than its places are.
    So the loss's Hessian in a linear head's weights is at most 0.5 times the second moment of the
    features at the places that are asked, which is that of all places where what is ignored does
    not depend on the features.

    Args:
        classes: How many classes there are.
        domains: How many labelled domains are learnt from.
        tile: When tested: the side of what is seen at a time of a larger image, in its own pixels;
            0 scales whole images to the network's size.
        overlap: When tested: by how many pixels tiles overlap at the least.

    >>> import torch
    >>> task = Segmentation(2)
    >>> task.answer(torch.eye(2).view(1, 2, 1, 2)).tolist(), task.words(1, ["sky", "sea"])
    ([[[0, 1]]], 'sea')
    """

    labels: ClassVar[LabelKind] = "mask"
    places: ClassVar[bool] = True

    classes: int
    domains: int = 1
    _: KW_ONLY
    tile: int = 0
    overlap: int = 64

    def __post_init__(self) -> None:
        Tiles(self.tile, self.overlap)  # refuses what cannot be

    @property
    def tiles(self) -> Tiles:
        """How images of test sets are looked at."""
        return Tiles(self.tile, self.overlap)

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """How many columns predictions have."""
        return self.classes

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the mean cross-entropy of each image over its places that have a class, (N,).

        One without such a place has the loss 0, and counts as a row all the same.

        Raises:
            ValueError: If the outputs are of no places.
        """
        if output.dim() != 4:
            raise ValueError(
                f"segmentation is of a class at every place, (N, K, h, w), and the network gave "
                f"{tuple(output.shape)}: take one that keeps places apart"
            )
        return place_losses(output, y)

    def tally(self) -> PlaceTally:
        """Give an empty tally of intersections and unions."""
        return PlaceTally(self.classes, self.tiles)

    def answer(self, output: Tensor) -> Tensor:
        """Give the likeliest class of each place of (N, K, h, w), (N, h, w)."""
        return output.argmax(1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        """Give a class's name."""
        return classes[int(answer)]
