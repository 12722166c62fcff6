"""BM25: what words alone find, the rival of every learnt search."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

WORD = re.compile(r"\w+")
"""What is a word: letters, digits and underscores; case does not count."""


class BM25:
    """Ranks texts by the words that they share with a query.

    A text's score is the sum over the query's words of idf f / (f + k1 (1 - b + b l / m)): f is how
    often the word stands in the text, l the text's words, m their mean, and idf the logarithm of
    1 + (N - n + 0.5) / (n + 0.5) for a word in n of N texts. Words are as they stand: no stems, no
    stop words. Source: The Probabilistic Relevance Framework: BM25 and Beyond (Robertson and
    Zaragoza, 2009); the 1 in the logarithm keeps it above zero.

    Args:
        texts: The collection.
        k1: How soon more of the same word stops to count.
        b: How far long texts are marked down.

    >>> BM25(["a red cat", "a dog"]).top("Cat", 5)[0][0]
    0
    """

    def __init__(self, texts: Iterable[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        self.words: dict[str, int] = {}
        counts = [Counter(words_of(text)) for text in texts]
        word, text, often = (
            np.array(column, dtype=np.int64)
            for column in (
                [self.words.setdefault(w, len(self.words)) for own in counts for w in own],
                [number for number, own in enumerate(counts) for _ in own],
                [count for own in counts for count in own.values()],
            )
        )
        self.count = len(counts)
        lengths = np.array([own.total() for own in counts], dtype=np.float64)
        spread = 1 - b + b * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-12)
        texts_of = np.bincount(word, minlength=len(self.words))
        idf = np.log1p((self.count - texts_of + 0.5) / (texts_of + 0.5))
        weights = idf[word] * often / (often + k1 * spread[text])
        self.weights = csr_array((weights, (word, text)), shape=(len(self.words), self.count))

    def scores(self, query: str) -> NDArray[np.float64]:
        """Score all texts for a query, float64 (N,)."""
        known = [self.words[word] for word in words_of(query) if word in self.words]
        found: NDArray[np.float64] = np.zeros(self.count)
        for word in known:
            own = slice(self.weights.indptr[word], self.weights.indptr[word + 1])
            found[self.weights.indices[own]] += self.weights.data[own]
        return found

    def top(self, query: str, most: int) -> list[tuple[int, float]]:
        """Give at most so many texts that share a word with a query, the best first.

        Of equal ones those that come first stand first.
        """
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")[:most]
        return [(int(number), float(scores[number])) for number in order if scores[number] > 0]


def words_of(text: str) -> list[str]:
    """Give the words of a text in their order.

    >>> words_of("A red-haired Cat.")
    ['a', 'red', 'haired', 'cat']
    """
    return WORD.findall(text.casefold())
