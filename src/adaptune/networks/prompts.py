"""Learnt vectors in the place of the first tokens of texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

SPREAD = 0.02
"""The deviation of vectors that begin at random (Zhou et al., 2022)."""


class Prompts(nn.Module):
    """Vectors (C, M, V) that stand for M tokens of the texts of classes, from ``start`` on.

    There are as many for all classes (C is 1), or each class has its own. Source: Learning to
    Prompt for Vision-Language Models (Zhou et al., 2022).

    Args:
        count: How many vectors, M.
        width: How long they are, V: what the tower's embedding gives.
        start: The first place that they take.
        classes: How many classes have their own; 1 where all share.

    >>> Prompts(4, 8)(torch.tensor([0, 0, 1])).shape
    torch.Size([3, 4, 8])
    """

    each: ClassVar[bool] = False
    """Whether every image has vectors of its own."""
    extra: int = 0
    """Features beyond those of the space that say what an image is like."""

    def __init__(self, count: int, width: int, *, start: int = 0, classes: int = 1) -> None:
        super().__init__()
        self.count, self.start = count, start
        self.vectors = nn.Parameter(SPREAD * torch.randn(classes, count, width))

    def forward(self, owner: Tensor, seen: Tensor | None = None) -> Tensor:
        """Give the vectors of texts by their classes (T,): (T, M, V).

        Where every image has its own, and something was ``seen`` (N, F), they are (N, T, M, V).
        """
        del seen
        if len(self.vectors) == 1:
            return self.vectors.expand(len(owner), -1, -1)
        return self.vectors[owner]


class ImagePrompts(Prompts):
    """Vectors to which every image adds what two layers make of its embedding, the same to each.

    Source: Conditional Prompt Learning for Vision-Language Models (Zhou et al., 2022).

    Args:
        count: How many vectors, M.
        width: How long they are, V.
        start: The first place that they take.
        seen: How many axes the space has.
        hidden: Units of the first layer.

    >>> prompts = ImagePrompts(4, 8, seen=6, hidden=2)
    >>> prompts(torch.tensor([0, 1]), torch.ones(5, 6)).shape
    torch.Size([5, 2, 4, 8])
    """

    each: ClassVar[bool] = True

    def __init__(self, count: int, width: int, *, start: int = 0, seen: int, hidden: int) -> None:
        super().__init__(count, width, start=start)
        self.told = nn.Sequential(nn.Linear(seen, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, owner: Tensor, seen: Tensor | None = None) -> Tensor:
        """Give the vectors of texts by their classes (T,), for images seen (N, F)."""
        own = super().forward(owner)
        if seen is None:
            return own
        added: Tensor = self.told(seen)
        return own + added[:, None, None, :]


def embedding_of(tower: nn.Module) -> nn.Embedding:
    """Find what makes vectors of the ids of a tower.

    That is what transformers calls so, what open_clip names ``token_embedding``, or the first.

    Raises:
        ValueError: If there is none.

    >>> embedding_of(nn.Sequential(nn.Embedding(9, 4), nn.Flatten()))
    Embedding(9, 4)
    """
    asked: Any = getattr(tower, "get_input_embeddings", None)
    named = [one for name, one in tower.named_modules() if name.endswith("token_embedding")]
    known = [asked()] if callable(asked) else []
    for one in (*known, *named, *tower.modules()):
        if isinstance(one, nn.Embedding):
            return one
    raise ValueError(
        f"{type(tower).__name__} makes no vectors of tokens, which prompts need: give a tower "
        "with an embedding, as minilm, ngrams or hf:FOLDER"
    )


@contextmanager
def placed(tower: nn.Module, vectors: Tensor, start: int) -> Iterator[None]:
    """Put ``vectors`` (T, M, V) in the place of M tokens, while T texts are read.

    >>> tower = nn.Sequential(nn.Embedding(9, 2))
    >>> with placed(tower, torch.zeros(1, 1, 2), 1):
    ...     (tower(torch.tensor([[1, 2, 3]])) == 0).all(2)
    tensor([[False,  True, False]])
    """

    def put(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        del module, args
        kept = output[:, start + vectors.shape[1] :]
        return torch.cat([output[:, :start], vectors.to(output.dtype), kept], 1)

    handle = embedding_of(tower).register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def shared_tokens(ids: Tensor, start: int) -> int:
    """Count the tokens that all texts (T, L) have in common from ``start`` on; none of one text.

    >>> shared_tokens(torch.tensor([[1, 5, 7, 0], [1, 5, 8, 9]]), 0)
    2
    """
    if len(ids) == 1:
        return 0
    alike = (ids == ids[:1]).all(0) & (ids[0] != 0)
    return int(alike[start:].cumprod(0).sum())


def with_room(ids: Tensor, start: int, count: int, longest: int) -> Tensor:
    """Give ids (T, L) with ``count`` more tokens from ``start`` on, whichever they are.

    Padding at the end makes room where it can.

    Raises:
        ValueError: If a text gets more than ``longest`` tokens.

    >>> with_room(torch.tensor([[5, 6, 0], [7, 0, 0]]), 0, 2, 4)
    tensor([[5, 5, 5, 6],
            [7, 7, 7, 0]])
    """
    some = ids[:, start : start + 1].clamp_min(1).expand(-1, count)
    wide = torch.cat([ids[:, :start], some, ids[:, start:]], 1)
    used = int((wide != 0).any(0).nonzero().max()) + 1
    if used > longest:
        raise ValueError(
            f"with {count} vectors more the texts of classes have {used} tokens, and their tower "
            f"reads {longest}: give shorter texts, or fewer vectors with --context"
        )
    return wide[:, : max(used, ids.shape[1])]
