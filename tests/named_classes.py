"""A small network of images and a tower of hashed words, for tests of classes made of texts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from adaptune.networks.joint import Joint, Words
from adaptune.networks.network import Network
from adaptune.networks.pairs import joint_head
from adaptune.networks.text import text_backbone

NAMES = ("dots", "rings", "stripes")


def pair_network(seed: int = 0, *, outputs: int = 6) -> Network[Joint]:
    """Give a random network that meets texts, as --task matching leaves one."""
    torch.manual_seed(seed)
    net = Network.from_timm("test_resnet", NAMES, size=32)
    tower = text_backbone("ngrams")
    net.head = joint_head(net.width, net.preprocess, outputs, tower=tower)
    return net


def toy_words(seed: int = 0, **options: object) -> Words:
    """Give a head of 5 features, 4 axes and three classes of two, one and three texts."""
    torch.manual_seed(seed)
    tower = nn.Sequential(nn.Embedding(20, 3), nn.Flatten(), nn.Dropout(0.3))
    joint = Joint(5, 4, text_backbone("ngrams").preprocess, tower=tower, tower_width=6)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]])
    return Words(joint, ids, torch.tensor([0, 0, 1, 2, 2, 2]), **options)


def saved_pair(folder: Path, seed: int = 0) -> Path:
    """Write such a network."""
    pair_network(seed).save(folder)
    return folder
