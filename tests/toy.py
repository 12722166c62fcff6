"""A small network with batch norms and a small learnable data set, for methods and loops."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from adaptune.data import ImageDomains, Loading, from_datasets
from adaptune.network import Network
from adaptune.training import Setting

CLASSES = ("red", "green", "blue")


def body() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 7),
    )


def network(seed: int = 0) -> Network:
    """Give a network whose batch norms have seen other data than the toy's."""
    torch.manual_seed(seed)
    module = body().train()
    with torch.no_grad():
        for _ in range(30):
            module(1.5 * torch.randn(16, 3, 8, 8) + 0.3)
    return Network.from_module(module, head="8", classes=CLASSES)


def images(count: int, shift: float = 0.0, seed: int = 0) -> TensorDataset:
    """Give noisy images in which one channel is brighter: the class."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = 0.6 * torch.randn(count, 3, 8, 8, generator=random) + shift
    x[torch.arange(count), y] += 1.0
    return TensorDataset(x, y)


def domains(count: int = 70, *, batch_size: int = 16, seed: int = 0) -> ImageDomains:
    """Give train, val and test sets of the toy, and a shifted domain."""
    return from_datasets(
        images(count),
        images(30, seed=1),
        images(30, seed=2),
        classes=CLASSES,
        ood={"shifted": images(30, shift=0.5, seed=3)},
        loading=Loading(batch_size=batch_size, seed=seed),
    )


class Toy(Setting):
    """The setting of the toy: its network, whatever backbone is named."""

    def network(self, classes: tuple[str, ...]) -> Network:
        del classes
        return network()
