"""Tokens of texts whose words have a label each: where in the ids each word begins."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adaptune.data.inputs.text import Encode, TextIds, hashed_word, tokenizer_of
from adaptune.data.listing import Example
from adaptune.data.sample import WrongItemError, shown
from adaptune.data.texts import read_text, words_of
from adaptune.networks.inputs import TokenInput
from adaptune.ops.spans import UNTAGGED


class TokenIds(TextIds):
    """Texts as a network of tokens reads them; the label of a word goes to its first token.

    What is the same at every visit is (2, ``length``): ids, and at a word's first token the word's
    number, from 1 on. Words are what blanks part. A word's token is the first that ends in it;
    without a tokenizer every word is one. Words behind ``length`` are lost, with their labels.
    """

    look: TokenInput

    def encode(self, length: int | None = None) -> Encode:
        """Give what makes ids of a text, at most so many; by default the network's own length."""
        return lambda text: [one for one, _ in self.pieces(text, length)]

    def pieces(self, text: str, length: int | None = None) -> list[tuple[int, int]]:
        """Give the ids of a text, with the number of the word that each begins, or 0.

        Raises:
            OSError: If the tokenizer cannot read it.
        """
        look, most, words = self.look, length or self.look.length, words_of(text)
        if not look.tokenizer:
            hashes = (hashed_word(word, look.vocabulary) for word in words[:most])
            return [(one, number) for number, one in enumerate(hashes, 1)]
        word_at = [number for number, word in enumerate(words, 1) for _ in range(len(word) + 1)]
        found: list[tuple[int, int]] = []
        latest = 0
        for one, end in tokenizer_of(look.tokenizer, most, look.vocabulary).with_ends(text):
            number = word_at[end - 1] if end else 0
            begins = number > latest
            latest = max(latest, number)
            found.append((one, number if begins else 0))
        return found

    def fixed(self, example: Example) -> Tensor:
        """Make the ids of an example's text and say where its words begin, (2, ``length``).

        Raises:
            OSError: If it lies in a file that cannot be read.
        """
        return self._with_words(read_text(example.path) if example.text is None else example.text)

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Give ids (L,), and the labels of words (W,) where these begin; others are `UNTAGGED`.

        A label that is one for the whole text stays.
        """
        ids, word = x
        if not y.dim():
            return ids, y
        placed = torch.full_like(ids, UNTAGGED)
        begins = word > 0
        placed[begins] = y[word[begins] - 1]
        return ids, placed

    def given(self, value: Any) -> Tensor:
        """Take ids in memory as they are, with a label each.

        Raises:
            WrongItemError: If it is a text, in which nothing says what labels stand at.
        """
        if isinstance(value, str):
            raise WrongItemError(
                f"its text is {shown(value)}, and where every token has a label a data set in "
                "memory gives ids: make them with the network's tokenizer"
            )
        return super().given(value)

    def _with_words(self, text: str) -> Tensor:
        found = self.pieces(text)
        words = torch.zeros(self.look.length, dtype=torch.int64)
        words[: len(found)] = torch.tensor([number for _, number in found], dtype=torch.int64)
        return torch.stack([self.filled([one for one, _ in found]), words])
