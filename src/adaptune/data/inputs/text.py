"""Texts as ids: what a tokenizer makes of them, or hashes of their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from adaptune.data.listing import Example
from adaptune.data.sample import UnreadableError, WrongItemError, shown
from adaptune.data.texts import read_text
from adaptune.networks.inputs import LONGEST, TextInput
from adaptune.networks.tokens import trade_padding

WORD = re.compile(r"\w+|[^\w\s]")
"""What is a word to be hashed: letters and digits, or any other character by itself."""

Encode = Callable[[str], list[int]]


class TextIds:
    """Texts as a network reads them, ids (``length``,) int64; longer ones lose their end."""

    made = ""  # kept nowhere: ids are made faster than they are read from a disk

    def __init__(self, look: TextInput) -> None:
        self.look = look
        self.encode()  # so that a tokenizer that is none is told before anything is read

    def encode(self, length: int | None = None) -> Encode:
        """Give what makes ids of a text, at most so many; by default the network's own length."""
        look, most = self.look, length or self.look.length
        if look.tokenizer:
            return tokenizer_of(look.tokenizer, most, look.vocabulary)
        return lambda text: hashed(text, look.vocabulary, most)

    def fixed(self, example: Example) -> Tensor:
        """Make the ids of an example's text.

        Raises:
            OSError: If it lies in a file that cannot be read.
        """
        return self._padded(read_text(example.path) if example.text is None else example.text)

    def varied(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Leave them: texts are not augmented."""
        return x, y

    def given(self, value: Any) -> Tensor:
        """Make ids of a text in memory; whole numbers are ids already.

        Raises:
            WrongItemError: If it is neither.
        """
        if isinstance(value, str):
            return self._padded(value)
        try:
            ids = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            ids = torch.empty(0)
        if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32):
            raise WrongItemError(
                f"its text is {shown(value)} and should be text, or ids: take the text itself"
            )
        return ids.long()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Say of which characters of a text each of its ids was made, from one to before another.

        Raises:
            OSError: If the tokenizer cannot read it.
        """
        encode = self.encode()
        if isinstance(encode, Tokens):
            return encode.spans(text)
        return hashed_spans(text, self.look.length)

    def counter(self) -> Callable[[str], int]:
        """Give what counts the ids that a text would have, up to some thousands."""
        encode = self.encode(LONGEST)

        def count(text: str) -> int:
            try:
                return len(encode(text))
            except OSError:
                return 0

        return count

    def _padded(self, text: str) -> Tensor:
        return self.filled(self.encode()(text))

    def filled(self, found: Sequence[int]) -> Tensor:
        """Give ids as the network's, (``length``,), with its padding."""
        own = torch.tensor(found, dtype=torch.int64)
        if self.look.tokenizer:
            own = trade_padding(own, self.look.pad)
        ids = torch.zeros(self.look.length, dtype=torch.int64)
        ids[: len(own)] = own
        return ids


def hashed(text: str, vocabulary: int, length: int) -> list[int]:
    """Hash the words of a text, each with the pair that it ends, into numbers from 1.

    >>> hashed("Good film", 100, 8) == hashed("good  FILM", 100, 8), len(hashed("good film", 9, 8))
    (True, 3)
    """
    return [hashed_word(words, vocabulary) for words, _ in islice(_words_and_pairs(text), length)]


def hashed_spans(text: str, length: int) -> list[tuple[int, int]]:
    """Say of which characters each of these numbers is made.

    >>> hashed_spans("Good film", 8)
    [(0, 4), (5, 9), (0, 9)]
    """
    return [span for _, span in islice(_words_and_pairs(text), length)]


def _words_and_pairs(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Give each word, and after it the pair that it ends, with their places in the text."""
    before: re.Match[str] | None = None
    for found in WORD.finditer(text):
        word = found[0].lower()
        yield word, found.span()
        if before is not None:
            yield f"{before[0].lower()} {word}", (before.start(), found.end())
        before = found


def hashed_word(word: str, vocabulary: int) -> int:
    """Hash a word into a number from 1, below ``vocabulary``.

    >>> 0 < hashed_word("film", 100) < 100
    True
    """
    return 1 + crc32(word.encode("utf-8", "surrogatepass")) % (vocabulary - 1)


@lru_cache(maxsize=8)
def tokenizer_of(content: str, length: int, vocabulary: int) -> Tokens:
    """Parse a tokenizer, by the package tokenizers alone, and give what makes ids by it.

    Raises:
        ValueError: If the package is missing, it is none, or it knows ids that a network of this
            ``vocabulary`` lacks.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ValueError(
            "these texts need a tokenizer: pip install 'adaptune[text]', or take --backbone "
            "ngrams, which needs nothing"
        ) from error
    with _explained():
        parsed = Tokenizer.from_str(content)
        parsed.no_padding()
        parsed.enable_truncation(length)
        highest = max(parsed.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= vocabulary:
        raise ValueError(
            f"its tokenizer knows the id {highest} and the network {vocabulary} words: they are "
            "not of one kind; take the folder from a copy"
        )
    return Tokens(content, length, parsed)


class Tokens:
    """A tokenizer that says in words what is wrong with it, also in another process."""

    def __init__(self, content: str, length: int, parsed: Any) -> None:
        self.content, self.length, self.parsed = content, length, parsed

    def __call__(self, text: str) -> list[int]:
        """Give the ids of a text.

        Raises:
            OSError: If the tokenizer cannot read it.
        """
        ids: list[int] = self._encoded(text).ids
        return ids[: self.length]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Say of which characters each id was made; none of those that are the tokenizer's own.

        Raises:
            OSError: If the tokenizer cannot read it.
        """
        found: list[tuple[int, int]] = self._encoded(text).offsets
        return found[: self.length]

    def with_ends(self, text: str) -> list[tuple[int, int]]:
        """Give the ids of a text, and where in it each ends; 0 of a token of no character.

        Raises:
            OSError: If the tokenizer cannot read it.
        """
        found = self._encoded(text)
        ends = (end if end > start else 0 for start, end in found.offsets)
        return list(zip(found.ids, ends, strict=True))[: self.length]

    def _encoded(self, text: str) -> Any:
        try:
            with _explained():
                return self.parsed.encode(text)
        except ValueError as error:
            raise UnreadableError(str(error)) from error


@contextmanager
def _explained() -> Iterator[None]:
    """Say in words that a tokenizer is damaged, whatever the package makes of it."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(
            f"its tokenizer is damaged, or of a newer kind than tokenizers knows ({said}): take "
            "the folder from a copy"
        ) from error
