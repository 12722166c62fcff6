"""The documents nearest to each query, exactly, of a collection that passes by in parts."""

from __future__ import annotations

import torch
from torch import Tensor

QUERIES = 1024
"""Queries that are compared with a part of the collection at once."""


class Nearest:
    """Keeps the ``most`` documents whose embeddings have the largest products with each query's.

    Memory is that of the queries (Q, E), of what is kept, Q times ``most`` scores and numbers, and
    of one part of the collection: the collection itself is not held. Of equal documents those that
    come first stand first.

    >>> found = Nearest(torch.eye(2), 1)
    >>> found.add(torch.tensor([[0.6, 0.8], [1.0, 0.0]]), torch.tensor([4, 7]))
    >>> found.numbers.tolist()
    [[7], [4]]
    """

    def __init__(self, queries: Tensor, most: int) -> None:
        self.queries, self.most = queries, most
        self.scores = queries.new_empty(len(queries), 0)
        self.numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)

    def add(self, documents: Tensor, numbers: Tensor) -> None:
        """Compare a part of the collection, embeddings (N, E) of documents of these numbers."""
        numbers = numbers.to(self.queries.device)
        kept = [
            self._best(slice(first, first + QUERIES), documents, numbers)
            for first in range(0, len(self.queries), QUERIES)
        ]
        if kept:
            scores, rows = zip(*kept, strict=True)
            self.scores, self.numbers = torch.cat(scores), torch.cat(rows)

    def _best(self, at: slice, documents: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        fresh, rows = (self.queries[at] @ documents.T).topk(min(self.most, len(documents)))
        scores = torch.cat([self.scores[at], fresh], 1)
        known = torch.cat([self.numbers[at], numbers[rows]], 1)
        by_number = known.argsort(dim=1)
        scores, known = scores.gather(1, by_number), known.gather(1, by_number)
        by_score = scores.argsort(dim=1, descending=True, stable=True)
        scores, known = scores.gather(1, by_score), known.gather(1, by_score)
        return scores[:, : self.most], known[:, : self.most]
