"""What is read of one row: a sample, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 60
"""Characters of a wrong value that a sentence shows."""

Sample = tuple[Tensor, Tensor, int]
"""An input, its label and its row in the data set."""


@dataclass(frozen=True)
class Unreadable:
    """A file or row that could not be read, and why; one that ``stops`` is more than left out."""

    path: str
    reason: str
    stops: bool = False


class UnreadableError(OSError):
    """A file that is not read as an image; its message says why and what to do."""


class WrongItemError(Exception):
    """An item of a data set that is not what it should be; no run goes on without it."""


def shown(value: object) -> str:
    """Write a value in few characters, with its type unless that is plain.

    >>> shown(1.5), shown([1, 2])
    ('1.5', '[1, 2] (list)')
    """
    text = repr(value).replace("\n", " ")
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    plain = isinstance(value, int | float | str | type(None))
    return text if plain else f"{text} ({type(value).__name__})"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` for a while; the random numbers of the rest, on any device, go on."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
