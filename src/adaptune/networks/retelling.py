"""Texts that one network read as ids, read again as another one does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from adaptune.networks.inputs import TextInput
from adaptune.networks.tokens import trade_padding


def read_again(ids: Tensor, look: TextInput, own: TextInput) -> Tensor:
    """Give ids of the same texts as ``own`` has them, (N, L) of ``look`` to (N, ``own.length``).

    The tokens are written out as text, on the CPU, and read again. So what the first tokenizer lost
    of a text (its end, capitals, words that it does not know) is lost to the second, too. Where
    both have one tokenizer, and room, the ids stay as they are.

    Raises:
        ValueError: If one of both reads hashed words, which cannot be written out.
    """
    if (own.tokenizer, own.pad) == (look.tokenizer, look.pad) and ids.shape[1] <= own.length:
        return ids
    if not own.tokenizer or not look.tokenizer:
        raise ValueError(
            "a teacher reads texts again by its own tokenizer, and hashed words (ngrams) have "
            "none: give network and teacher of one kind, or encoders both"
        )
    first, second = _parsed(look.tokenizer), _parsed(own.tokenizer, own.length)
    rows = [row[row != 0] for row in ids.cpu()]
    texts = first.decode_batch([trade_padding(row, look.pad).tolist() for row in rows])
    found = torch.zeros(len(ids), own.length, dtype=torch.int64)
    for row, said in zip(found, second.encode_batch(texts), strict=True):
        row[: len(said.ids)] = trade_padding(torch.tensor(said.ids, dtype=torch.int64), own.pad)
    return found.to(ids.device)


@lru_cache(maxsize=8)
def _parsed(content: str, length: int = 0) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    if length:
        tokenizer.enable_truncation(length)
    return tokenizer
