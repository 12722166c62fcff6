"""Answers without a model: what stands in most of a question's passages. A rival to be beaten."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set

from adaptune.writers.bioasq import HOW

COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be been between but by can could did do does for from had has have how "
        "in into is it its may most not of on or our than that the their them there these this to "
        "using was we were what when where which who will with",
    )
)
"""Words that are no part of a name."""

WORD = re.compile(r"[\w][\w'/+-]*|[^\w\s]")


def from_passages(prompt: str, times: int) -> str:
    """Answer a prompt of `asked`: yes, or the runs of words that most passages have.

    Such a run ends at a common word, at one of the question's and at a mark. Of those in as many
    passages the first comes first.

    >>> from adaptune.writers.bioasq import Question, asked
    >>> own = ("Mutations of BRCA1 cause it.", "It is BRCA1 or TP53.", "TP53 and BRCA1")
    >>> print(from_passages(asked(Question("1", "What does cause it?", "factoid", own)), 0))
    BRCA1
    TP53
    Mutations
    """
    del times
    if HOW["yesno"] in prompt.partition("\n")[0]:
        return "yes"
    own = prompt.rpartition("\n\n")[2]
    passages, _, question = own.partition("\nQuestion: ")
    closed = COMMON | {word.lower() for word in WORD.findall(question)}
    counts: Counter[str] = Counter()
    for line in passages.splitlines()[1:]:
        counts.update(list(dict.fromkeys(_runs(line.removeprefix("- "), closed))))
    return "\n".join(name for name, _ in counts.most_common(5))


def _runs(text: str, closed: Set[str]) -> list[str]:
    found: list[list[str]] = [[]]
    for word in WORD.findall(text):
        ends = word.lower() in closed or not word[0].isalnum()
        found = [*found, []] if ends else [*found[:-1], [*found[-1], word]]
    return [" ".join(run) for run in found if run]
