"""Every method that adapts does better on real digits under another light than without it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from toy import TwoDomains, classifies
from words import meets_words

from adaptune.engine.loop import fit
from adaptune.engine.method import Method, teachers_of
from adaptune.engine.plan import Plan
from adaptune.engine.streaming import stream
from adaptune.methods import METHODS
from adaptune.methods.supervised.ft import FineTune
from adaptune.networks.network import Network
from adaptune.tasks.classification import Classification

CLASSES = tuple("0123456789")
SOURCE, TARGET = 600, 400
ADAPTING = [
    name
    for name, one in METHODS.items()
    if one.needs.unlabeled
    and classifies(one)
    and not meets_words(one)
    and teachers_of(one) == "none"
    and one.setting != "semi-supervised"
    and name not in {"t3a", "lame"}  # they change no weight, and the light has moved all features
]
FROZEN = {"memspm"}
"""Methods of a pretrained network whose weights stay."""
GAIN = 5.0
"""Points that every method must gain."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Give handwritten digits of real people, (N, 3, 8, 8) around 0, and their labels."""
    read = load_digits()
    x = torch.from_numpy(read.images).float().div(8).sub(1)
    return x.unsqueeze(1).repeat(1, 3, 1, 1), torch.from_numpy(read.target).long()


def lit(x: Tensor) -> Tensor:
    """Show digits dimmer, in a warm light, and noisy."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return 0.5 * x + torch.tensor([0.7, 0.2, -0.3]).view(3, 1, 1) + 0.15 * noise


class Digits(TwoDomains):
    """Digits as the scanner saw them, and those of other writers in another light."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(batch_size=50, seed=seed)
        x, y = digits()
        self.x, self.y = x[:SOURCE], y[:SOURCE]
        self.domain = torch.zeros_like(self.y)
        self.target, self.truth = lit(x[-TARGET:]), y[-TARGET:]

    def accuracy(self, model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            return self.right(model(self.target).argmax(1))

    def right(self, guesses: Tensor) -> float:
        """Score a guess for every image of the target, in percent."""
        return 100 * float((guesses == self.truth).double().mean())


def network(classes: tuple[str, ...] = CLASSES) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 4, 32)),
    )
    return Network.from_module(body, head="8", classes=classes)


def trained(method: Method, epochs: int) -> Method:
    for _ in fit(method, Digits(), Plan(epochs=epochs)):
        pass
    return method


@cache
def of_the_source() -> Network:
    return trained(FineTune(network(), Classification(len(CLASSES))), 8).net


def adapted(name: str) -> float:
    """Give the accuracy on the target that a method reaches."""
    method, data, task = METHODS[name], Digits(), Classification(len(CLASSES))
    if method.setting == "test-time":
        answers = stream(method(deepcopy(of_the_source()), task), data.unlabeled(), Plan())
        return data.right(torch.cat([answer.logits.argmax(1) for answer in answers]))
    begun = name in FROZEN or not method.needs.labeled
    net = deepcopy(of_the_source()) if begun else network()
    return data.accuracy(trained(method(net, task), 8))


@pytest.mark.parametrize("name", ADAPTING)
def test_it_is_better_on_digits_in_another_light(name):
    assert adapted(name) > Digits().accuracy(of_the_source()) + GAIN
