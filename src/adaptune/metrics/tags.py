"""A tally of tagged words: the F1 of spans where tags are of these, or else the share of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptune.metrics.classification import mean_loss
from adaptune.metrics.column import Column
from adaptune.metrics.tally import Mistake
from adaptune.ops.places import place_losses
from adaptune.ops.spans import met_spans, span_tags, words_first
from adaptune.results.score import Score, Scores
from adaptune.runtime.devices import exact
from adaptune.runtime.processes import add_up, gather
from adaptune.types import Outputs

DRAWS = 1000
"""Sets that are drawn for an interval."""

AT_ONCE = 2**22
"""Numbers of drawn sets that are held at a time."""

WORST = 12
"""Mistakes that are kept, each of another text."""


class TagTally:
    """Counts tags of words; scores by the F1 of spans in percent, or the accuracy of words.

    Spans count where the ``names`` of the tags are of such (`span_tags`): one is right if its
    begin, its end and its type are, and precision and recall are those of all spans of the set.
    Elsewhere, or without names, the share of words whose tag is right counts. The interval is a
    bootstrap over texts, so of each four numbers are kept, with its loss and index: 28 bytes.

    The detail of its scores is ``confusion`` in words, one row a true tag; in percent,
    ``token_accuracy`` and ``macro_f1``, the mean F1 of tags that are there or predicted; of spans
    ``by_type``, the precision, recall, F1 and count of each type; how many texts have no tagged
    word (``empty``).

    Args:
        classes: How many tags there are.
        names: What they are called, where that is known.
    """

    def __init__(self, classes: int, names: Sequence[str] = ()) -> None:
        self.classes = classes
        self.tags = span_tags(names) if names else None
        types = len(self.tags.types) if self.tags is not None else 0
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.spans = torch.zeros(types, 3, dtype=torch.int64)
        self.losses, self.index = Column(), Column(torch.int64)
        self.counts = Column(torch.int32)
        self.worst = torch.empty(0, 6, dtype=torch.float64)

    def add(self, outputs: Outputs) -> None:
        """Count one batch.

        Raises:
            ValueError: If the outputs are of no places, or not as many as the task's.
        """
        logits, y = exact(outputs.logits).float(), exact(outputs.y)
        if logits.dim() != 3 or logits.shape[1] != self.classes:
            raise ValueError(
                f"a task of {self.classes} tags has outputs (N, {self.classes}, L) and got "
                f"{tuple(logits.shape)}: evaluate a network that labels every token"
            )
        self.losses.add(place_losses(logits, y))
        self.index.add(outputs.index)
        asked, answers = y < self.classes, logits.argmax(1)
        self.confusion, self.spans = self.confusion.to(y.device), self.spans.to(y.device)
        cell = (y * self.classes + answers).where(asked, self.classes**2).flatten()
        cells = torch.bincount(cell, minlength=self.classes**2 + 1)[:-1]
        self.confusion += cells.view(self.classes, self.classes)
        if self.tags is not None:
            spans = met_spans(self.tags, *words_first(y, answers, self.classes))
            self.spans += spans.sum(0)
            counted = spans.sum(1)
        else:
            right = (asked & (answers == y)).sum(1)
            counted = torch.stack([right, asked.sum(1), asked.sum(1)], 1)
        self.counts.add(torch.cat([counted, asked.sum(1, keepdim=True)], 1).int().flatten())
        self._remember(logits, answers, y, outputs.index)

    def _remember(self, logits: Tensor, answers: Tensor, y: Tensor, index: Tensor) -> None:
        """Keep of each text the word that was tagged wrong most surely, if any was."""
        sure = logits.softmax(1).amax(1)
        wrong = (y < self.classes) & (answers != y)
        surest, place = sure.where(wrong, -1.0).max(1)
        word = (y < self.classes).cumsum(1) - 1
        at = place.unsqueeze(1)
        columns = [surest, index.to(y.device)]
        columns += [one.gather(1, at).squeeze(1) for one in (y, answers, sure, word)]
        self._choose(torch.stack([one.double() for one in columns], 1))

    def _choose(self, more: Tensor) -> None:
        every = torch.cat([self.worst.to(more.device), more])
        every = every[every[:, 1].argsort(stable=True)]
        self.worst = every[every[:, 0].argsort(descending=True, stable=True)[:WORST]]

    def merge(self) -> None:
        """Add up what all processes counted."""
        self.confusion, self.spans = add_up(self.confusion), add_up(self.spans)
        for column in (self.losses, self.index, self.counts):
            column.replace(gather(column.values()))
        worst = gather(self.worst)
        self.worst = self.worst[:0]
        self._choose(worst)

    def scores(self) -> Scores:
        """Score the set.

        Raises:
            ValueError: If none of its words has a tag.
        """
        order = self.index.values().argsort(stable=True)
        losses = self.losses.values().cpu()[order]
        counts = self.counts.values().cpu().view(-1, 4)[order].numpy()
        confusion = self.confusion.cpu()
        if not confusion.any():
            raise ValueError(
                "no word could be scored: the set is empty, or none of its words has a tag that "
                "the network knows"
            )
        types = self.tags.types if self.tags is not None else ()
        by_type = {name: rates(own) for name, own in zip(types, self.spans.tolist(), strict=True)}
        return Scores(
            mean_f1("token accuracy" if self.tags is None else "span F1", counts[:, :3]),
            mean_loss(losses),
            len(losses),
            {
                "confusion": tuple(tuple(row) for row in confusion.tolist()),
                "token_accuracy": 100 * float(confusion.diagonal().sum() / confusion.sum()),
                "macro_f1": macro_f1(confusion),
                "empty": int((counts[:, 3] == 0).sum()),
                **({"by_type": by_type} if by_type else {}),
            },
        )

    def mistakes(self) -> list[Mistake]:
        """Give the words that were most surely tagged wrong, one a text, the surest first."""
        return [
            Mistake(int(row), truth, answer, confidence, int(word))
            for surest, row, truth, answer, confidence, word in self.worst.tolist()
            if surest >= 0
        ]


def f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Give the F1 (...,) of counts (..., 3): met, there, predicted; 0 where nothing is.

    >>> f1(np.array([[1, 2, 2], [0, 0, 0]])).tolist()
    [0.5, 0.0]
    """
    met, there, said = (counts[..., at].astype(float) for at in range(3))
    found: NDArray[np.float64] = 2 * met / np.maximum(there + said, 1)
    return found


def mean_f1(name: str, counts: NDArray[Any]) -> Score:
    """Give the F1 of all spans in percent, of counts (N, 3) a text as in `f1`.

    Its interval and error are of a bootstrap over texts, with draws that are always the same.
    Source: Efron, 1979.

    >>> mean_f1("span F1", np.array([[1, 2, 2]])).value
    50.0
    """
    texts, random = len(counts), np.random.default_rng(0)
    drawn: list[float] = []
    while len(drawn) < DRAWS:
        some = min(DRAWS - len(drawn), max(1, AT_ONCE // texts))
        often = random.multinomial(texts, np.full(texts, 1 / texts), size=some)
        drawn += (100 * f1(often @ counts)).tolist()
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = 100 * float(f1(counts.sum(0, dtype=np.int64)))
    return Score(name, value, float(low), float(high), float(np.std(drawn)))


def rates(counts: Sequence[int]) -> dict[str, float]:
    """Give precision, recall and F1 in percent, and how many there are, of counts as in `f1`.

    >>> rates([1, 2, 4])
    {'precision': 25.0, 'recall': 50.0, 'f1': 33.333333333333336, 'count': 2}
    """
    met, there, said = counts
    return {
        "precision": 100 * met / max(1, said),
        "recall": 100 * met / max(1, there),
        "f1": 200 * met / max(1, there + said),
        "count": there,
    }


def macro_f1(confusion: Tensor) -> float:
    """Give the mean F1 in percent of classes that are there or predicted, of counts (K, K).

    >>> macro_f1(torch.tensor([[1, 0], [1, 0]]))
    33.33333333333333
    """
    met, there, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    each = f1(torch.stack([met, there, said], 1).numpy())
    return 100 * float(each[(there + said).numpy() > 0].mean())
