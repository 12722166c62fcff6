"""Small pairs to learn from: noisy images of two halves, and texts of two words that name them."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Joint
from adaptune.networks.network import Network
from adaptune.tasks.matching import Matching

LOOK = TextInput(8, vocabulary=12)
WIDTH, AXES = 7, 6
TASK = Matching(AXES)


def body() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 3),
    )


class Mean(nn.Module):
    """The mean over the tokens of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(LOOK.vocabulary, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        there = (ids != 0).unsqueeze(-1)
        own: torch.Tensor = self.table(ids + torch.arange(ids.shape[1]) % 2 * 6 * (ids != 0))
        return (own * there).sum(1) / there.sum(1).clamp(min=1)


def network(seed: int = 0) -> Network[Joint]:
    """Give two towers, one of which sees images, in a space of their own."""
    torch.manual_seed(seed)
    net = Network.from_module(body(), head="7", classes=["text"])
    net.head = Joint(WIDTH, AXES, LOOK, tower=Mean(), tower_width=5)
    return net


def pairs(count: int, seed: int = 0, shift: float = 0.0) -> TensorDataset:
    """Give images whose halves are each bright in one of three channels, and the ids of both."""
    random = torch.Generator().manual_seed(seed)
    y = torch.zeros(count, LOOK.length, dtype=torch.int64)
    y[:, :2] = torch.stack([torch.arange(count) % 3, torch.arange(count) // 3 % 3], 1) + 1
    x = 0.4 * torch.randn(count, 3, 8, 8, generator=random) + shift
    x[torch.arange(count), y[:, 0] - 1, :4] += 1.0
    x[torch.arange(count), y[:, 1] - 1, 4:] += 1.0
    return TensorDataset(x, y)


def domains(count: int = 72, *, batch_size: int = 18, double: bool = False) -> DomainData:
    """Give train, val and test sets of pairs, and a shifted domain."""
    sets = [pairs(count), pairs(27, seed=1), pairs(27, seed=2), pairs(27, seed=3, shift=0.5)]
    if double:
        sets = [TensorDataset(x.double(), y) for x, y in (one.tensors for one in sets)]
    train, val, test, other = sets
    return from_datasets(
        train, val, test, labels="text", ood={"shifted": other}, loading=Loading(batch_size)
    )
