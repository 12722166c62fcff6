"""A small network whose classes are texts, which are of other images than the toy's."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import get_args, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import CLASSES, images, network

from adaptune.engine.method import Method
from adaptune.networks.inputs import TextInput
from adaptune.networks.joint import Joint, Words
from adaptune.networks.network import Network

SWAPPED, PLAIN = 8, 9
"""The word that the texts of classes begin with, for images `swapped`, and that for others."""

IDS = torch.tensor([row for c in (1, 2, 3) for row in ([SWAPPED, 5, c, 0], [SWAPPED, 6, c, 7])])
OWNER = torch.arange(3).repeat_interleave(2)
TEXTS = tuple((f"swapped photo {name}", f"swapped picture {name} things") for name in CLASSES)
WIDTH = 8
LOOK = TextInput(24, "", 16)


def swapped(x: Tensor) -> Tensor:
    """Show what is red green, and the other way round."""
    return x[:, [1, 0, 2]]


class Tower(nn.Module):
    """One layer of attention between ids (N, L), and the mean of what is no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(16, WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(24, WIDTH))
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != 0).unsqueeze(2)
        read = self.layer(
            self.words(ids) + self.places[: ids.shape[1]], src_key_padding_mask=ids == 0
        )
        return torch.where(there, read, 0.0).sum(1) / there.sum(1)


def meets_words(method: type[Method]) -> bool:
    """Tell whether a method works on classes that are texts alone, by its annotation."""
    return Words in get_args(get_type_hints(method.__init__).get("net"))


def words_network(seed: int = 0, *, plain: bool = False) -> Network[Words]:
    """Give a network that knows both kinds of images, and whose texts are of those `swapped`.

    Texts of ``plain`` images are those of the toy's.
    """
    found = deepcopy(_seen(seed))
    if plain:
        found.head.ids = IDS.where(IDS != SWAPPED, PLAIN)
        found.head.renew()
    torch.manual_seed(seed)  # for what is put into it
    return found


def fresh_words(seed: int = 0) -> Network[Words]:
    """Give one at random."""
    return words_of(network(seed))


def words_of(net: Network) -> Network[Words]:
    """Let a network compare its features with texts, by a tower at random."""
    joint = Joint(net.width, 6, LOOK, tower=Tower(), tower_width=WIDTH, warmth=10.0)
    net.head = Words(joint, IDS.clone(), OWNER.clone(), TEXTS)
    return net


@cache
def _seen(seed: int) -> Network[Words]:
    """Train one on images of both kinds, each with the texts that name its kind."""
    net = fresh_words(seed).train()
    head = net.head
    x, y = images(96, seed=50 + seed).tensors
    sides = ((swapped(x), IDS), (x, IDS.where(IDS != SWAPPED, PLAIN)))
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    for number in range(60):
        rows = torch.randperm(96, generator=torch.Generator().manual_seed(number))[:48]
        adam.zero_grad()
        loss = torch.zeros(())
        for shown, head.ids in sides:
            loss = loss + F.cross_entropy(net(shown[rows]), y[rows])
        loss.backward()
        adam.step()
    net.zero_grad()
    head.ids = IDS.clone()
    head.renew()
    return net.eval()
