"""A toy of dense labelling: every place of an image has a class, some have none."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import CLASSES, TwoDomains, tinted

from adaptune.metrics.tally import ScoreTally
from adaptune.networks.heads import Readout
from adaptune.networks.network import Network
from adaptune.tasks.task import LabelKind, Labelling


class Places(Labelling):
    """Label every place, (N, K, h, w) against (N, h, w); at ``ignore`` nothing is asked."""

    labels: ClassVar[LabelKind] = "class"

    def __init__(self, classes: int, domains: int = 1, *, ignore: int = 255) -> None:
        self.classes = self.outputs = classes
        self.domains, self.ignore = domains, ignore

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        """Give the mean over all places of each image, so that every image weighs the same."""
        each = F.cross_entropy(output, y, ignore_index=self.ignore, reduction="none")
        return each.flatten(1).mean(1)

    def tally(self) -> ScoreTally:
        raise NotImplementedError

    def answer(self, output: Tensor) -> Tensor:
        return output.argmax(1)

    def words(self, answer: float, classes: Sequence[str]) -> str:
        return classes[int(answer)]


def dense_network(seed: int = 0) -> Network[Readout]:
    """Give a network of places whose batch norms have seen other data than the toy's.

    As `toy.network`, it is made once for a seed.
    """
    made, state = _dense_network(seed)
    torch.set_rng_state(state)
    return deepcopy(made)


@cache
def _dense_network(seed: int) -> tuple[Network[Readout], Tensor]:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 7, 1),
    ).train()
    with torch.no_grad():
        for _ in range(30):
            module(1.5 * torch.randn(16, 3, 8, 8) + 0.3)
    return Network.from_module(module, head="6", classes=CLASSES), torch.get_rng_state()


class DensePlaces(TwoDomains):
    """The two domains with a class at every place: left and right halves differ, a row is ignored.

    A class is a brighter channel, and the target has a tint, as in the toy.
    """

    def __init__(
        self, *, sources: int = 1, count: int = 96, tint: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__(sources=sources, count=count, seed=seed)
        self.x, self.y = drawn(len(self.x), seed=1)
        self.x = self.x + 0.4 * self.domain[:, None, None, None]
        self.target, self.truth = drawn(len(self.target), seed=2)
        self.target = tinted(self.target, tint)

    def accuracy(self, model: nn.Module) -> float:
        """Score a model in eval mode on the target's places that are not ignored, in percent."""
        model.eval()
        with torch.no_grad():
            right = model(self.target).argmax(1) == self.truth
        return 100 * float(right[self.truth != 255].double().mean())


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images (N, 3, 8, 8) and their labels (N, 8, 8)."""
    random = torch.Generator().manual_seed(seed)
    halves = torch.randint(3, (count, 2), generator=random)
    y = halves.repeat_interleave(4, 1)[:, None].repeat(1, 8, 1)
    x = 0.4 * torch.randn(count, 3, 8, 8, generator=random)
    x = x + F.one_hot(y, 3).permute(0, 3, 1, 2)
    y[:, 0] = 255
    return x, y
