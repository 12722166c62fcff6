"""Heads of a space in which images and texts, or two texts, meet; classes made of words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptune.networks.heads import Head, read_linear
from adaptune.networks.inputs import TextInput
from adaptune.networks.prompts import Prompts, placed
from adaptune.networks.remembered import Remembered
from adaptune.runtime.inputs import in_eval

WARMTH = 1 / 0.07
"""What cosines are times at first (Radford et al., 2021)."""

WARMEST = 100.0
"""What cosines are times at most (Radford et al., 2021)."""

TEXTS = 256
"""Texts of classes that are read at once."""

Averaged = Literal["embeddings", "similarities"]
"""What of the texts of a class is averaged: what they are, or how near an image is to each."""


class Encode(Protocol):
    """What makes features (M, W) of ids (M, L): a tower, or a body that reads texts."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Make features of texts."""
        ...


class Joint(Head):
    """A head that brings features to where those of their partners are.

    Outputs (N, E, ...) are embeddings of length 1, times ``warmth``: so their products with a
    partner's embedding are scaled cosines. Partners are texts, which a ``tower`` reads, or, where
    there is none, the body that reads the other side too; both then take one map, which begins as
    the identity, so that cosines are those of the features. Source of the scale: Learning
    Transferable Visual Models From Natural Language Supervision (Radford et al., 2021).

    Args:
        width: How many features a body gives, D.
        outputs: How many axes the space has, E.
        look: How texts are made into ids.
        tower: What reads ids (M, L) into features (M, W).
        tower_width: How many features that gives, W.
        config: What builds the tower again; see `text_architecture`.
        warmth: What cosines are times at first.

    >>> head = Joint(3, 3, TextInput())
    >>> head(torch.ones(2, 3)).shape, head(torch.ones(2, 3, 4, 4)).shape
    (torch.Size([2, 3]), torch.Size([2, 3, 4, 4]))
    """

    otherwise: ClassVar[str] = "take another method, see adaptune methods --task matching"

    def __init__(
        self,
        width: int,
        outputs: int,
        look: TextInput,
        *,
        tower: nn.Module | None = None,
        tower_width: int = 0,
        config: Mapping[str, Any] | None = None,
        warmth: float = WARMTH,
    ) -> None:
        super().__init__()
        self.look, self.config = look, dict(config or {})
        self.project = _map(width, outputs, equal=tower is None or width == outputs)
        self.tower = tower
        self.other: nn.Linear | None = None
        if tower is not None:
            self.other = _map(tower_width, outputs, equal=tower_width == outputs)
        self.log_warmth = nn.Parameter(torch.tensor(math.log(warmth)))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """What each axis of the space asks of features, (E, D)."""
        return self.project.weight

    @property
    def warmth(self) -> Tensor:
        """What cosines are times."""
        return self.log_warmth.exp().clamp(max=WARMEST)

    def forward(self, features: Tensor) -> Tensor:
        """Give the embeddings of features (N, D, ...), scaled: (N, E, ...)."""
        return self.warmth * self.embed(features)

    def embed(self, features: Tensor) -> Tensor:
        """Give the embeddings of features (N, D, ...), of length 1: (N, E, ...)."""
        return F.normalize(read_linear(features, self.project.weight, None), dim=1)

    def partners(self, ids: Tensor, body: Encode) -> Tensor:
        """Give the embeddings of partners by their ids (M, L), of length 1: (M, E)."""
        if self.tower is None or self.other is None:
            return self.embed(body(ids))
        return F.normalize(self.other(self.tower(ids)), dim=1)

    def fold(self) -> Joint:
        """Give itself: it is of raw features."""
        return self


def texts_look(head: Head) -> TextInput | None:
    """Say how texts that a head brings into its space are made into ids; None if it has none.

    >>> texts_look(Joint(3, 3, TextInput(8)))
    TextInput(length=8, vocabulary=32768, pad=0)
    """
    joint = head.joint if isinstance(head, Words) else head
    return joint.look if isinstance(joint, Joint) else None


class Words(Head):
    """A head whose classes are texts: outputs are scaled cosines with what a tower makes of them.

    A class is the mean of its texts' ``embeddings``, at length 1 again (Radford et al., 2021); or
    its output is the mean of its texts' ``similarities``, so the mean of the embeddings as it is
    (Visual Classification via Description from Large Language Models, Menon and Vondrick, 2022). Of
    classes of one text both are the same.

    These ``anchors`` are kept, and made again, in eval mode, where what they are made of has
    changed since. Where gradients are asked for and can reach that, they are made with every
    output. ``prompts`` are learnt vectors in the place of tokens; where every image has its own, so
    have the classes. What labelled embeddings that are ``remembered`` say is added.

    Args:
        joint: The space, with a tower.
        ids: The texts, (T, L).
        owner: The number of the class of each, (T,), from 0 on; every class has one.
        words: The texts of each class, as people read them.
        average: What of the texts of a class is averaged.
        anchors: What classes are compared with, (K, E), where that is known.

    >>> tower = nn.Sequential(nn.Embedding(9, 4), nn.Flatten())
    >>> joint = Joint(3, 2, TextInput(8), tower=tower, tower_width=8)
    >>> head = Words(joint, torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([0, 0, 1]))
    >>> head(torch.ones(5, 3)).shape, head.anchors.norm(dim=1).round(decimals=4)
    (torch.Size([5, 2]), tensor([1., 1.]))
    """

    otherwise: ClassVar[str] = "give --zero-shot-head linear, or take another method"

    ids: Tensor
    owner: Tensor
    anchors: Tensor
    prompts: Prompts | None
    remembered: Remembered | None

    def __init__(
        self,
        joint: Joint,
        ids: Tensor,
        owner: Tensor,
        words: Sequence[Sequence[str]] = (),
        *,
        average: Averaged = "embeddings",
        anchors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.joint, self.average = joint, average
        self.prompts, self.remembered = None, None
        self.words = tuple(map(tuple, words))
        self.made_of: tuple[tuple[int, int], ...] = ()
        self.register_buffer("ids", ids)
        self.register_buffer("owner", owner)
        known = joint.weight.new_zeros(int(owner.max()) + 1, len(joint.weight))
        self.register_buffer("anchors", known if anchors is None else anchors)
        if anchors is None:
            self.renew()

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """What each class asks of features, (K, D), but for their length."""
        own = self.joint.warmth * self.texts() @ self.joint.project.weight
        return F.pad(own, (0, self.prompts.extra)) if self.prompts is not None else own

    @property
    def live(self) -> bool:
        """Whether anchors are made with every output: gradients are asked for and reach them."""
        return torch.is_grad_enabled() and any(one.requires_grad for one in self._sources())

    def texts(self) -> Tensor:
        """Give what classes are compared with, (K, E); no image's own prompts."""
        if self.live:
            return self.made()
        if not torch.compiler.is_compiling() and self.made_of != self._now():
            self.renew()
        return self.anchors

    @torch.no_grad()
    def renew(self) -> None:
        """Make the anchors again, of the tower as it is, in eval mode."""
        kind = self.joint.weight.device.type
        with in_eval(self.joint), torch.autocast(kind, enabled=False):
            self.anchors.copy_(self.made())
        self.trust()

    def trust(self) -> None:
        """Take the anchors for those of the tower as it is, as where both were read from a file."""
        self.made_of = self._now()

    def each(self, features: Tensor) -> Tensor:
        """Compare features (N, D, ...) with every text by itself: (N, T, ...)."""
        return read_linear(self.joint(features), self.read(), None)

    def _sources(self) -> Iterator[Tensor]:
        """Give the weights that anchors are made of."""
        for part in (self.joint.tower, self.joint.other, self.prompts):
            if part is not None:
                yield from part.parameters()
                yield from part.buffers()

    def _now(self) -> tuple[tuple[int, int], ...]:
        """Say which state these weights are in, by where they lie and how often they were set."""
        return tuple((one.data_ptr(), one._version) for one in self._sources())

    def made(self, seen: Tensor | None = None) -> Tensor:
        """Make the anchors, (K, E), or of images that were seen (N, F) each one's, (N, K, E)."""
        owner = self.owner.to(self.joint.weight.device)
        vectors = None if self.prompts is None else self.prompts(owner, seen)
        return self.centred(self.read(vectors))

    def read(self, vectors: Tensor | None = None, which: Tensor | None = None) -> Tensor:
        """Give the embeddings of texts, of all or by number, (T, E), with ``vectors`` (T, M, V).

        Of vectors (N, T, M, V) they are (N, T, E).
        """
        ids = (self.ids if which is None else self.ids[which]).to(self.joint.weight.device)
        tower, prompts = self.joint.tower, self.prompts
        if vectors is None or tower is None or prompts is None:
            parts: Sequence[Tensor] = torch.split(ids, TEXTS)
            return torch.cat([self.joint.partners(part, _no_body) for part in parts])
        lead = vectors.shape[:-2]
        every, flat = ids.expand(*lead, -1).flatten(0, -2), vectors.flatten(0, -3)
        found = []
        for part, some in zip(torch.split(every, TEXTS), torch.split(flat, TEXTS), strict=True):
            with placed(tower, some, prompts.start):
                found.append(self.joint.partners(part, _no_body))
        return torch.cat(found).view(*lead, -1)

    def centred(self, own: Tensor) -> Tensor:
        """Give the means of the embeddings of each class's texts (..., T, E)."""
        owner = self.owner.to(own.device)
        count = torch.bincount(owner, minlength=len(self.anchors)).unsqueeze(1)
        sums = own.new_zeros(*own.shape[:-2], *self.anchors.shape).index_add(-2, owner, own)
        mean = sums / count
        if self.average == "similarities":
            return mean
        return torch.where(count > 1, F.normalize(mean, dim=-1), mean)

    def seen(self, features: Tensor) -> Tensor:
        """Give what prompts of each image's own look at: its embedding, and what is beyond it."""
        pooled = features.flatten(2).mean(2) if features.dim() > 2 else features
        width = self.joint.weight.shape[1]
        return torch.cat([self.joint.embed(pooled[:, :width]), pooled[:, width:]], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Compare features (N, D, ...) with all classes: (N, K, ...)."""
        own = self.joint.embed(features[:, : self.joint.weight.shape[1]])
        scaled = self.joint.warmth * own
        if self.prompts is None or not self.prompts.each:
            said = read_linear(scaled, self.texts(), None)
        else:
            said = torch.einsum("ne...,nke->nk...", scaled, self.made(self.seen(features)))
        return said if self.remembered is None else said + self.remembered(own)

    def fold(self) -> Words:
        """Give itself, with the anchors of its tower as it is: it is of raw features."""
        with torch.no_grad():
            self.texts()
        return self


def _no_body(ids: Tensor) -> Tensor:
    raise ValueError(f"classes of words need a tower that reads their {len(ids)} texts: give one")


def _map(width: int, outputs: int, *, equal: bool) -> nn.Linear:
    """Make a linear map without bias: the identity, or random as torch makes it."""
    own = nn.Linear(width, outputs, bias=False)
    if equal:
        nn.init.eye_(own.weight)
    return own
