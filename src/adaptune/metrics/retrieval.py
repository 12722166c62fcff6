"""A tally of pairs: how high a row's own partner stands among all partners of a set."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptune.metrics.shares import wilson
from adaptune.metrics.tally import Mistake
from adaptune.results.score import Score, Scores
from adaptune.runtime.processes import gather
from adaptune.types import Outputs

AT = (1, 5, 10)
"""How many of the first answers a partner is looked for among."""

WORST = 12
"""Mistakes that are kept."""

CHUNK = 1024
"""Rows that are compared with all partners at once."""


class PairTally:
    """Keeps the embeddings of both sides, 8 E bytes a row, and ranks partners in the end.

    Partners with the same ids are one. The main score is recall@1 in percent, the share of rows
    whose own partner comes first; beside it recall@5 and @10, the mean reciprocal rank and nDCG@10
    (both in percent), and recall back, of partners that find a row of theirs. Among equals a
    partner stands in the middle. The loss is that of the set as one batch, from rows to partners.
    """

    def __init__(self, embed: Callable[[Tensor], Tensor]) -> None:
        self.embed = embed
        self.kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, outputs: Outputs) -> None:
        """Keep one batch."""
        partners = self.embed(outputs.y).float()
        self.kept.append((outputs.logits.float(), partners, outputs.y, outputs.index.cpu()))

    def merge(self) -> None:
        """Join what all processes kept, in the order of the set."""
        device = self.kept[0][0].device if self.kept else torch.device("cpu")
        parts = [torch.cat(part) for part in zip(*self.kept, strict=True)] or _none()
        rows, partners, y, index = (gather(part) for part in parts)
        order = index.argsort(stable=True)
        self.kept = [(rows[order], partners[order], y[order].to(device), index[order])]

    def scores(self) -> Scores:
        """Score the set.

        Raises:
            ValueError: If it had no row.
        """
        rows, partners, y, _ = self._all()
        group, first = _first_of(y)
        ranks, losses = ranked(rows, partners[first], group)
        back = _back(rows, partners[first], group)
        count = len(rows)
        hits = int((ranks <= 1).sum())
        low, high = wilson(hits, count)
        others = {f"recall@{k}": 100 * float((ranks <= k).double().mean()) for k in AT[1:]}
        others["mrr"] = 100 * float((1 / ranks).mean())
        gain = torch.where(ranks <= AT[-1], 1 / (1 + ranks).log2(), torch.zeros_like(ranks))
        others["ndcg@10"] = 100 * float(gain.mean())
        others |= {f"recall@{k} back": 100 * float((back <= k).double().mean()) for k in AT}
        share = hits / count
        error = 100 * (share * (1 - share) / count) ** 0.5
        main = Score("recall@1", 100 * share, 100 * low, 100 * high, error)
        return Scores(main, float(losses.mean()), count, others)

    def mistakes(self) -> list[Mistake]:
        """Give the rows whose partner lost by most, the worst first; answers are rows too."""
        rows, partners, y, index = self._all()
        group, first = _first_of(y)
        found: list[Mistake] = []
        for start in range(0, len(rows), CHUNK):
            alike = F.normalize(rows[start : start + CHUNK], dim=1) @ partners[first].T
            own = alike.gather(1, group[start : start + CHUNK, None]).squeeze(1)
            best, guess = alike.max(1)
            for row in ((best - own) > 0).nonzero().flatten().tolist():
                answer = float(index[first[guess[row]]])
                at = int(index[start + row])
                found.append(Mistake(at, float(at), answer, float(best[row] - own[row])))
        return sorted(found, key=lambda one: (-one.confidence, one.row))[:WORST]

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.kept or not len(self.kept[0][0]):
            raise ValueError("there is no pair to score: give at least one")
        rows, partners, y, index = (torch.cat(part) for part in zip(*self.kept, strict=True))
        return rows, partners, y, index


def ranked(rows: Tensor, partners: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Give the rank of each row's own partner among all, from 1, and its cross-entropy, (N,) both.

    Of rows (N, E) and partners (M, E), ``own`` (N,) says which is whose. Among equals a partner
    stands in the middle, so that a network that says the same of all is not right.

    >>> ranked(torch.eye(2), torch.eye(2), torch.tensor([0, 0]))[0].tolist()
    [1.0, 2.0]
    """
    ranks, losses = [], []
    for start in range(0, len(rows), CHUNK):
        alike = rows[start : start + CHUNK] @ partners.T
        mine = own[start : start + CHUNK]
        at = alike.gather(1, mine.unsqueeze(1))
        above = (alike > at).sum(1).double()
        level = (alike == at).sum(1).double() - 1
        ranks.append(1 + above + level / 2)
        losses.append(F.cross_entropy(alike, mine, reduction="none").double())
    return torch.cat(ranks), torch.cat(losses)


def _back(rows: Tensor, partners: Tensor, own: Tensor) -> Tensor:
    """Give the rank that each partner's best row has among all rows, (M,)."""
    ranks = []
    unit = F.normalize(rows, dim=1)
    for start in range(0, len(partners), CHUNK):
        alike = partners[start : start + CHUNK] @ unit.T
        numbers = torch.arange(start, start + len(alike), device=own.device)
        mine = own == numbers.unsqueeze(1)
        best = alike.masked_fill(~mine, -torch.inf).amax(1, keepdim=True)
        above = ((alike > best) & ~mine).sum(1).double()
        level = ((alike == best) & ~mine).sum(1).double()
        ranks.append(1 + above + level / 2)
    return torch.cat(ranks)


def _first_of(y: Tensor) -> tuple[Tensor, Tensor]:
    """Give the number of each row's ids (N, L) among all that differ, and the first row of each."""
    unique, group = torch.unique(y, dim=0, return_inverse=True)
    first = torch.full((len(unique),), len(y), device=y.device)
    rows = torch.arange(len(y), device=y.device)
    return group, first.scatter_reduce(0, group, rows, "amin")


def _none() -> list[Tensor]:
    return [torch.empty(0, 1), torch.empty(0, 1), torch.empty(0, 1, dtype=torch.int64)] + [
        torch.empty(0, dtype=torch.int64)
    ]
