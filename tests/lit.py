"""Real digits in several lights: labelled domains, and a light that none of them has."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from toy import TwoDomains

from adaptune.engine.loop import fit
from adaptune.engine.method import Method
from adaptune.engine.plan import Plan
from adaptune.networks.network import Network

CLASSES = tuple("0123456789")
LIGHTS = ((1.0, (0.0, 0.0, 0.0)), (0.5, (0.6, 0.1, -0.3)), (0.6, (-0.5, 0.2, 0.3)))
"""Contrast and colour of the labelled domains, and of the light that is never seen."""
EACH, UNSEEN = 150, 300


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Give handwritten digits of real people, (N, 3, 8, 8) around 0, and their labels."""
    read = load_digits()
    x = torch.from_numpy(read.images).float().div(8).sub(1)
    return x.unsqueeze(1).repeat(1, 3, 1, 1), torch.from_numpy(read.target).long()


class LitDigits(TwoDomains):
    """Digits of some writers in two lights, and those of others in a third."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(batch_size=50, seed=seed)
        (x, y), self.sources = digits(), 2
        rows = [slice(EACH * at, EACH * (at + 1)) for at in range(2)]
        self.x = torch.cat([lit(x[some], at) for at, some in enumerate(rows)])
        self.y = torch.cat([y[some] for some in rows])
        self.domain = torch.arange(2).repeat_interleave(EACH)
        self.target, self.truth = lit(x[-UNSEEN:], 2), y[-UNSEEN:]

    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            return 100 * float((model(self.target).argmax(1) == self.truth).double().mean())


def lit(x: Tensor, light: int) -> Tensor:
    """Show digits in a light."""
    contrast, colour = LIGHTS[light]
    return contrast * x + torch.tensor(colour).view(3, 1, 1)


def network(seed: int = 0) -> Network:
    """Give a network of three stages, random."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 32)),
    )
    return Network.from_module(body, head="11", classes=CLASSES)


def unseen(method: Method, *, epochs: int, seed: int = 0) -> float:
    """Train on the two lights; give the score in the third, in percent."""
    data = LitDigits(seed)
    for _ in fit(method, data, Plan(epochs=epochs, seed=seed, layout="contiguous")):
        pass
    return data.accuracy(method)
