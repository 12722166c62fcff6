"""What passes between data, methods and the loop: plain frozen records, no behaviour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor, nn

BatchNormPolicy = Literal["train", "eval", "converted"]
"""How batch norms behave while training.

- ``train``: they normalise by the batch and their running statistics follow it.
- ``eval``: they normalise by their running statistics, which stay as they are.
- ``converted``: as ``train``, after the layers were re-expressed in the new domain's statistics.
"""

Split = Literal["train", "val", "test"]

UNKNOWN = "unknown"
"""What images of none of the classes are called, where a network may say so."""

Layout = Literal["auto", "channels_last", "contiguous"]
"""How images lie in memory; ``auto`` is for whoever trains to choose."""


@dataclass(frozen=True)
class Between:
    """Where a search looks for a hyper-parameter: from ``low`` to ``high``, on a log scale."""

    low: float
    high: float


class RateBetween(Between):
    """Where a search looks for a learning rate of SGD; of other optimisers it lies elsewhere."""


Rate = Annotated[float, RateBetween(1e-3, 1.0)]
"""A learning rate of stochastic gradient descent, whatever the argument is called."""


@dataclass(frozen=True)
class Unlabeled:
    """Aligned rows: row i of every field describes the same example.

    ``x`` is (N, ...); ``domain`` and ``index`` are int64 (N,), ``index`` the row of the data set.
    Labelled domains are numbered from 0; an unlabelled target comes after the last of them.
    """

    x: Tensor
    domain: Tensor
    index: Tensor
    views: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True)
class Labeled(Unlabeled):
    """Examples whose labels the method may see; ``y`` is (N, ...), of classes int64 (N,)."""

    y: Tensor


def empty_unlabeled() -> Unlabeled:
    """Give the side of a batch that a method does not need: zero rows, never None.

    >>> len(empty_unlabeled())
    0
    """
    none = torch.empty(0, dtype=torch.int64)
    return Unlabeled(x=torch.empty(0), domain=none, index=none)


@dataclass(frozen=True)
class Batch:
    """All that a method sees in one step; ``progress`` runs from 0 to 1 over the whole run."""

    labeled: Labeled
    unlabeled: Unlabeled = field(default_factory=empty_unlabeled)
    progress: float = 0.0


@dataclass(frozen=True)
class Objective:
    """Named terms to minimise, and the logits they came from."""

    terms: dict[str, Tensor]
    logits: Tensor
    features: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """The sum of the terms, a scalar."""
        return torch.stack(list(self.terms.values())).sum()


@dataclass(frozen=True)
class Group:
    """A module that is trained, and how fast.

    ``rate`` is the learning rate; where ``curvature`` is given, it is a share of the largest rate
    at which momentum descent is stable on a loss of that curvature. ``trust`` bounds what one
    gradient may move: a share of each tensor's norm at the full rate, less as the rate falls.
    """

    module: nn.Module
    rate: float
    curvature: float | None = None
    trust: float = math.inf


@dataclass(frozen=True)
class Needs:
    """What a method asks of the data; it is given nothing else.

    ``domains`` is the smallest number of labelled domains that it works with, ``views`` how many
    further augmented views it wants of each unlabelled image, ``pixels`` whether it changes or
    mixes inputs itself, which ids of texts do not bear, ``tokens`` whether it hides words, which
    images have none of.
    """

    labeled: bool = True
    unlabeled: bool = False
    domains: int = 1
    views: int = 0
    pixels: bool = False
    tokens: bool = False


class Domains(Protocol):
    """The data of a run, as a method sees it."""

    def batches(self, needs: Needs, epoch: int, start: int = 0) -> Iterable[Batch]:
        """Give an epoch's training batches from ``start`` on, in an order the epoch decides."""
        ...

    def scan(self, split: Split, *, shuffled: bool = False) -> Iterable[Labeled]:
        """Give every labelled example of a split once, without augmentation.

        They come in order, or ``shuffled`` so that the first are a fair sample; of several
        processes each gets its share.
        """
        ...

    def unlabeled(self, *, shuffled: bool = False) -> Iterable[Unlabeled]:
        """Give every unlabelled example of the target once, without augmentation.

        They come in order, ``index`` from 0, or ``shuffled``; of several processes each gets its
        share.
        """
        ...

    def query_labels(self, index: Tensor) -> Tensor:
        """Give labels, int64 (N,), of unlabelled examples, by their ``index`` (N,) int64.

        All processes ask for the same. Raises where nobody answers, or not yet; it may be asked
        the same again after `--resume`.
        """
        ...

    def steps(self, needs: Needs) -> int:
        """Count the batches of an epoch."""
        ...


@dataclass(frozen=True)
class Outputs:
    """What a network says of a set, aligned rows on the CPU.

    ``logits`` (N, K), ``y`` (N,), ``features`` (N, D), ``index`` (N,) the rows of the data set.
    """

    logits: Tensor
    y: Tensor
    features: Tensor
    index: Tensor

    def at(self, rows: Tensor) -> Outputs:
        """Give what is said of some rows."""
        return Outputs(self.logits[rows], self.y[rows], self.features[rows], self.index[rows])
