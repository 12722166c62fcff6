"""What a doctor counts of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from adaptune.data.listing import Example

PAIR_COUNTS = ("pairs", "different", "different partners", "repeated partners")
"""What is counted of a set: rows, what they show, and partners, of which some stand at several."""


def pair_counts(examples: Sequence[Example]) -> dict[str, int]:
    """Count pairs, what has partners, partners, and those that stand at several rows.

    >>> from pathlib import Path
    >>> pairs = [Example(Path(f"{n}.png"), said) for n, said in enumerate("aab")]
    >>> list(pair_counts(pairs).values())
    [3, 3, 2, 1]
    """
    partners = Counter(one.label for one in examples)
    subjects = {one.subject for one in examples}
    again = sum(count > 1 for count in partners.values())
    return dict(zip(PAIR_COUNTS, (len(examples), len(subjects), len(partners), again), strict=True))
