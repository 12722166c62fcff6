"""Spans of tagged words: where those of B, I, O (and E, S) begin and end, and which are met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNTAGGED = 65_535
"""What stands in a label where no word begins, or no tag is asked; no task has as many classes."""

OUTSIDE = "O"
SPAN = re.compile(r"([BIESLU])(?:[-_](.+))?")
"""A tag of a word in a span: where in it the word stands, and the span's type."""

ALONE, LAST = ("B", "S", "U"), ("E", "S", "L", "U")
"""What begins a span whatever is before it, and what ends one whatever comes."""


@dataclass(frozen=True)
class SpanTags:
    """What tags say of spans: the type of each, -1 outside, and which begin or end a span.

    Tensors are (K,), a place a tag; ``types`` are the names of the types.
    """

    types: tuple[str, ...]
    kind: Tensor
    begins: Tensor
    ends: Tensor


def span_tags(names: Sequence[str]) -> SpanTags | None:
    """Read tags as those of spans, IOB, IOB2, IOBES or BILOU; None where they are none.

    They are of spans where all are ``O`` or a letter and a type, as ``B-PER``, some beginning with
    B or I; without types there must be an ``O``.

    >>> tags = span_tags(["O", "B-PER", "I-PER"])
    >>> tags.types, tags.kind.tolist(), tags.begins.tolist()
    (('PER',), [-1, 0, 0], [False, True, False])
    >>> span_tags(["NN", "DT"]) is None
    True
    """
    found = [SPAN.fullmatch(name) for name in names if name != OUTSIDE]
    read = [one for one in found if one is not None]
    bare = any(one[2] is None for one in read)
    if len(read) < len(found) or not any(one[1] in "BI" for one in read):
        return None
    if bare and OUTSIDE not in names:
        return None
    types = tuple(dict.fromkeys(one[2] or "" for one in read))
    parts = [("", -1) if one == OUTSIDE else _part(one, types) for one in names]
    return SpanTags(
        types,
        torch.tensor([kind for _, kind in parts]),
        torch.tensor([letter in ALONE for letter, _ in parts]),
        torch.tensor([letter in LAST for letter, _ in parts]),
    )


def _part(name: str, types: Sequence[str]) -> tuple[str, int]:
    found = SPAN.fullmatch(name)
    return ("", -1) if found is None else (found[1], types.index(found[2] or ""))


def words_first(y: Tensor, answers: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Put the places that have a tag before the others, in their order: both (N, L).

    What follows is `UNTAGGED` in ``y`` and in the answers.

    >>> y, answers = torch.tensor([[UNTAGGED, 1, UNTAGGED, 0]]), torch.tensor([[5, 6, 7, 8]])
    >>> [one[:, :2].tolist() for one in words_first(y, answers, 2)]
    [[[1, 0]], [[6, 8]]]
    """
    asked = y < classes
    order = (~asked).long().argsort(dim=1, stable=True)
    kept = asked.gather(1, order)
    return (
        y.gather(1, order).where(kept, UNTAGGED),
        answers.gather(1, order).where(kept, UNTAGGED),
    )


def find_spans(tags: SpanTags, said: Tensor) -> tuple[Tensor, Tensor]:
    """Find spans of words (N, L) of tags: where one begins its type, else -1, and its last place.

    A span begins at B, S and U, and at any tag of a span after one outside, one that ends a span,
    or one of another type; so I after O begins one, as in the scorer of CoNLL-2000 (Tjong Kim Sang
    and Buchholz, 2000). It ends before the next that begins, or the next outside.

    >>> tags = span_tags(["O", "B-PER", "I-PER"])
    >>> [one.tolist() for one in find_spans(tags, torch.tensor([[1, 2, 0, 2]]))]
    [[[0, -1, -1, 0]], [[1, 1, 3, 3]]]
    """
    tag = said.clamp(max=len(tags.kind))  # what is no tag is outside
    kind = _padded(tags.kind, -1, said)[tag]
    inside = kind >= 0
    ends = _padded(tags.ends, 1, said)[tag].bool() | ~inside
    before, broken = _shifted(kind, -2), _shifted(ends.long(), 1).bool()
    begins = inside & (_padded(tags.begins, 0, said)[tag].bool() | broken | (before != kind))
    follows = torch.cat([(begins | ~inside)[:, 1:], torch.ones_like(inside[:, :1])], 1)
    length = said.shape[1]
    place = torch.arange(length, device=said.device).expand_as(said)
    last = place.where(inside & follows, length).flip(1).cummin(1).values.flip(1)
    return kind.where(begins, -1), last


def met_spans(tags: SpanTags, y: Tensor, answers: Tensor) -> Tensor:
    """Count spans of words (N, L) by type: met, there, predicted, (N, T, 3).

    One is met if place and type of its begin, and its end, are those of a predicted one.

    >>> tags = span_tags(["O", "B-PER", "I-PER"])
    >>> met_spans(tags, torch.tensor([[1, 2, 0, 1]]), torch.tensor([[1, 0, 0, 1]])).tolist()
    [[[1, 2, 2]]]
    """
    (true, ends), (said, stops) = find_spans(tags, y), find_spans(tags, answers)
    met = true.where((true == said) & (ends == stops), -1)
    kinds = torch.arange(len(tags.types), device=y.device)
    counts = [(one.unsqueeze(2) == kinds).sum(1) for one in (met, true, said)]
    return torch.stack(counts, 2)


def _padded(table: Tensor, value: int, like: Tensor) -> Tensor:
    """Give a table with a last entry for what is no tag."""
    table = table.long().to(like.device)
    return torch.cat([table, table.new_tensor([value])])


def _shifted(values: Tensor, first: int) -> Tensor:
    """Give what stands before each place, ``first`` before the first one."""
    return torch.cat([torch.full_like(values[:, :1], first), values[:, :-1]], 1)
