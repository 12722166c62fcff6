"""Features made of a class and noise: like those that are known, and like those that are not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.ops.adversary import as_it_is
from adaptune.ops.episodes import collapse

UNITS = 8
"""How many random numbers a feature is made of."""

LOW, HIGH = 0.2, 1.0
"""The noise's standard deviation, where features are to be known and where they are not."""


class MadeFeatures(nn.Module):
    """Two generators of features (N, D) of a class, of little and of much noise, and their judges.

    Source: DAFOS-Net (Pal et al., 2023).

    >>> made = MadeFeatures(width=5, classes=3, hidden=4)
    >>> low, high = made(torch.tensor([0, 2]))
    >>> low.shape, high.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    def __init__(self, *, width: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.makers = nn.ModuleList(_layers(UNITS + classes, hidden, width) for _ in range(2))
        self.judges = nn.ModuleList(_layers(width + classes, hidden, 1) for _ in range(2))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Make features of classes (N,), known ones and unknown ones; no gradient flows back."""
        low, high, *_ = self._made(y)
        return low.detach(), high.detach()

    def terms(self, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Give what judges and generators go down, by features (N, D) of classes (N,)."""
        return {"judged": self.judged(features, y), "made": self.fooled(y)}

    def judged(self, features: Tensor, y: Tensor) -> Tensor:
        """Ask judges to tell what is made from features (N, D) of classes (N,): a scalar."""
        losses = []
        for judge, made in zip(self.judges, self(y), strict=True):
            said = judge(self._of_class(torch.cat([made, features]), y.repeat(2)))
            truth = (torch.arange(len(said), device=said.device) < len(y)).to(said)
            losses.append(F.binary_cross_entropy_with_logits(said.squeeze(1), truth))
        return torch.stack(losses).sum()

    def fooled(self, y: Tensor) -> Tensor:
        """Ask generators to make what judges take for features, of both noises unlike: a scalar."""
        low, high, noise, other = self._made(y)
        said = [
            as_it_is(judge, self._of_class(made, y))
            for judge, made in zip(self.judges, (low, high), strict=True)
        ]
        losses = [F.binary_cross_entropy_with_logits(one, torch.zeros_like(one)) for one in said]
        return torch.stack(losses).sum() + collapse(low.detach(), high, noise, other)

    def _made(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kind = next(self.parameters())
        noise, other = (
            spread * torch.randn(len(y), UNITS, device=y.device).to(kind) for spread in (LOW, HIGH)
        )
        low, high = (
            maker(self._of_class(one, y))
            for maker, one in zip(self.makers, (noise, other), strict=True)
        )
        return low, high, noise, other

    def _of_class(self, rows: Tensor, y: Tensor) -> Tensor:
        return torch.cat([rows, F.one_hot(y, self.classes).to(rows)], 1)


def _layers(read: int, hidden: int, told: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, told))
