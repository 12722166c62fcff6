"""Ids of made texts in two domains that share few words of feeling, and a small encoder."""

from __future__ import annotations

import random
from functools import cache
from types import SimpleNamespace

import torch
from texts import BAD, FILL, GOOD, tokenizer
from torch import nn
from torch.utils.data import TensorDataset

from adaptune.data import DomainData, Loading, from_datasets
from adaptune.data.inputs import input_of
from adaptune.networks.architectures import Origin
from adaptune.networks.heads import Readout
from adaptune.networks.inputs import TextInput
from adaptune.networks.network import Network
from adaptune.networks.tokens import AskWithMask, PoolTokens

CLASSES = ("neg", "pos")
LOOK = TextInput(10, tokenizer(), 40)
OLD, BOTH, NEW = slice(0, 3), slice(0, 6), slice(3, 6)
"""Words of feeling that a source has, that texts with two have, and that the source lacks."""


class Bag(nn.Module):
    """An encoder, as transformers has them, whose tokens all have the mean of a text's words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(LOOK.vocabulary, 16)
        self.turn = nn.Linear(16, 16)
        asks = AskWithMask(LOOK.pad)
        self.register_forward_pre_hook(asks, with_kwargs=True)
        self.register_forward_hook(PoolTokens("mean", asks), with_kwargs=True)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.words

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        there = attention_mask.unsqueeze(2).to(self.words.weight)
        mean = (self.words(input_ids) * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)
        return SimpleNamespace(last_hidden_state=self.turn(mean).expand(-1, input_ids.shape[1], -1))


def network(seed: int = 0) -> Network:
    """Give a bag of words that is an encoder, under a head of two classes."""
    torch.manual_seed(seed)
    origin = Origin("text", "bag", "classifier")
    return Network(Bag(), Readout(16, 2), 16, classes=CLASSES, origin=origin, preprocess=LOOK)


@cache
def texts(count: int, words: tuple[int, int], each: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Make ids (N, L) of texts with so many words of feeling of one kind, and their labels (N,)."""
    draw, read = random.Random(seed), input_of(LOOK)
    ids, y = [], []
    for number in range(count):
        own = draw.sample((BAD, GOOD)[number % 2][slice(*words)], each)
        said = draw.sample(FILL[:2], 1) + own
        draw.shuffle(said)
        ids.append(read.given(" ".join(said)))
        y.append(number % 2)
    return torch.stack(ids), torch.tensor(y)


def rows(words: slice, count: int = 96, each: int = 2, seed: int = 0) -> TensorDataset:
    """Give texts with labels as rows."""
    return TensorDataset(*texts(count, (words.start, words.stop), each, seed))


def domains(batch_size: int = 16) -> DomainData:
    """Give a source with words of its own, and a target of texts that have four of all."""
    return from_datasets(
        rows(OLD),
        rows(OLD, 20, seed=1),
        rows(OLD, 20, seed=2),
        classes=CLASSES,
        target=rows(BOTH, each=4, seed=3),
        loading=Loading(batch_size=batch_size),
    )


@torch.no_grad()
def accuracy(net: Network, words: slice = NEW) -> float:
    """Score texts whose words of feeling are those, in percent."""
    x, y = rows(words, 60, seed=4).tensors
    return 100 * float((net.eval()(x).argmax(1) == y).double().mean())
