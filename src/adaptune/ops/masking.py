"""Words hidden for a network to predict, and the loss of predicting them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED, RANDOM = 0.8, 0.1
"""Which shares of chosen words become the mask and any word; the rest stay what they are."""


def hide_words(
    ids: Tensor, draws: Tensor, free: Tensor, *, mask: int, share: float
) -> tuple[Tensor, Tensor]:
    """Hide words of texts ``ids`` (N, L): give what is read in place of them, and which they are.

    Of the words that ``free`` (V,) says may be hidden, a ``share`` is chosen; of these four in five
    become ``mask``, one in ten any of ids 1 to V - 1, and one in ten stay. ``draws`` (N, 2 L) from
    0 to 1 decide. Source: BERT (Devlin et al., 2019).

    >>> ids, free = torch.tensor([[1, 5, 6, 7]]), torch.arange(8) > 1
    >>> draws = torch.tensor([[0.0, 0.0, 0.0, 0.9, 0.3, 0.3, 0.85, 0.3]])
    >>> hidden, chosen = hide_words(ids, draws, free, mask=2, share=0.5)
    >>> hidden.tolist(), chosen.tolist()
    ([[1, 2, 4, 7]], [[False, True, True, False]])
    """
    which, how = draws.chunk(2, 1)
    chosen = (which < share) & free[ids]
    span = len(free) - 1
    words = 1 + ((how - MASKED) / RANDOM * span).long().clamp(0, span - 1)
    read = torch.where(how < MASKED, mask, torch.where(how < MASKED + RANDOM, words, ids))
    return torch.where(chosen, read, ids), chosen


def masked_losses(logits: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
    """Add up for each text how badly its hidden words are predicted: (N,).

    ``logits`` (M, V) predict ``words`` (M,), which stand where ``chosen`` (N, L) does.

    >>> chosen = torch.tensor([[True, True], [False, False]])
    >>> masked_losses(torch.zeros(2, 4), torch.tensor([0, 3]), chosen)
    tensor([2.7726, 0.0000])
    """
    losses = F.cross_entropy(logits, words, reduction="none")
    return losses.new_zeros(len(chosen)).index_add(0, chosen.nonzero()[:, 0], losses)
