"""Features of ids: a bag of words, and what is put around an encoder of transformers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Pooling = Literal["mean", "cls", "none"]
"""How features of tokens become those of a text: their mean, those of the first, or not at all."""


LONGER = 10.0
"""How many times as long vectors of hashed words are read as they are kept."""


class HashedWords(nn.Module):
    """A bag of hashed words and pairs of words: the sum of their vectors over the root of how many.

    So features begin with a variance of about 1 an axis, as a random projection of the bag. Its
    vectors are learnt, as those of fastText (Joulin et al., 2017). They are kept a tenth as long
    and read ten times as long, so that at a rate that suits the head a word, which few texts have,
    moves a hundred times as far.

    >>> HashedWords(10, 3)(torch.tensor([[4, 2, 0], [0, 0, 0]])).shape
    torch.Size([2, 3])
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        with torch.no_grad():
            self.words.weight.div_(LONGER)

    def get_input_embeddings(self) -> nn.Module:
        """Give the layer that holds vectors of words, as encoders of transformers do."""
        return self.words

    def forward(self, ids: Tensor) -> Tensor:
        """Make features (N, ``width``) of ids (N, L)."""
        ids = without_padding(ids)
        count = (ids != 0).sum(1, keepdim=True).clamp_min(1)
        return LONGER * self.words(ids).sum(1) / count.sqrt()  # type: ignore[no-any-return]


class HashedPlaces(nn.Module):
    """Hashed words where they stand: the vector of each between those of its two neighbours.

    Vectors are kept and read as those of `HashedWords`. A linear head on them is a tagger by
    windows of three words (Collobert et al., 2011, without their hidden layer).

    >>> HashedPlaces(10, 3)(torch.tensor([[4, 2, 0, 0]])).shape
    torch.Size([1, 9, 4])
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.words = HashedWords(vocabulary, width).words

    def forward(self, ids: Tensor) -> Tensor:
        """Make features (N, 3 ``width``, L) of ids (N, L)."""
        found = LONGER * self.words(ids)
        none = torch.zeros_like(found[:, :1])
        before = torch.cat([none, found[:, :-1]], 1)
        after = torch.cat([found[:, 1:], none], 1)
        return at_every_place(torch.cat([before, found, after], 2), ids != 0, ids.shape[1])


def at_every_place(hidden: Tensor, mask: Tensor, length: int) -> Tensor:
    """Give ``length`` places features (N, D, L) of tokens (N, M, D), where ``mask`` (N, M) says.

    Behind its end a text's tokens come again from the first on, so each place holds what a token
    has, and what looks at all places weighs texts alike, however much of them is padding.

    >>> tokens, mask = torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[True, True, False]])
    >>> at_every_place(tokens, mask, 5).tolist()
    [[[1.0, 2.0, 1.0, 2.0, 1.0]]]
    """
    count = mask.sum(1, keepdim=True).clamp_min(1)
    place = torch.arange(length, device=hidden.device) % count
    wide = place.unsqueeze(2).expand(-1, -1, hidden.shape[2])
    return hidden.gather(1, wide).movedim(1, 2)


def without_padding(ids: Tensor) -> Tensor:
    """Cut what is padding in all rows, where telling so costs nothing: not on a GPU, or traced.

    >>> without_padding(torch.tensor([[1, 0, 0], [1, 2, 0]]))
    tensor([[1, 0],
            [1, 2]])
    """
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or traced:
        return ids
    used = (ids != 0).any(0).nonzero()
    return ids[:, : int(used[-1]) + 1 if len(used) else 1]


def trade_padding(ids: Tensor, pad: int) -> Tensor:
    """Trade 0 with the id that a network has as padding, ``pad``; twice is nothing.

    >>> trade_padding(torch.tensor([[5, 1, 0]]), 1)
    tensor([[5, 0, 1]])
    """
    if not pad:
        return ids
    return torch.where(ids == 0, pad, torch.where(ids == pad, 0, ids))


class AskWithMask:
    """A hook that calls an encoder with ids and their mask."""

    def __init__(self, pad: int) -> None:
        self.pad, self.length = pad, 0

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Give the arguments that transformers knows."""
        del module
        if not args:
            return None  # asked by the names of transformers
        self.length = args[0].shape[1]
        ids = without_padding(args[0])
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        mask = (ids != 0) | first  # attention needs one
        own = {"input_ids": trade_padding(ids, self.pad), "attention_mask": mask.long()}
        return (), kwargs | own


class AskPadded:
    """A hook that calls a tower with ids alone: what lies behind a text is no matter to it.

    One that wants as many tokens as it takes, ``length``, is given padding up to there.
    """

    def __init__(self, pad: int, length: int = 0, name: str = "input_ids") -> None:
        self.pad, self.length, self.name = pad, length, name

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Give the arguments that the library knows."""
        del module
        if not args:
            return None  # asked by the library's names
        ids = without_padding(args[0])
        filled = nn.functional.pad(ids, (0, max(0, self.length - ids.shape[1])))
        return (), kwargs | {self.name: trade_padding(filled, self.pad)}


def take_pooled(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
    """Give the features that a model of transformers pools itself: a hook."""
    del module, args
    pooled: Tensor = output.pooler_output
    return pooled


class PoolTokens:
    """A hook that makes features (N, D) of an encoder's last layer (N, L, D), or (N, D, L).

    The latter are those of every token, of a text as long as the one that ``asked``.
    """

    def __init__(self, pooling: Pooling, asked: AskWithMask) -> None:
        self.pooling, self.asked = pooling, asked

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Tensor:
        """Give the features of texts, or of their tokens."""
        del module, args
        hidden: Tensor = output.last_hidden_state
        if self.pooling == "none":
            return at_every_place(hidden, kwargs["attention_mask"] != 0, self.asked.length)
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = kwargs["attention_mask"].to(hidden.dtype).unsqueeze(2)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean
