"""Texts of a kind: prompts with a few of them, one more of each answer, and enough of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from adaptune.runtime.seeds import seed_for
from adaptune.writers.writer import NoAnswerError

EXAMPLES = "{examples}"
"""Where a template has the examples."""

TEMPLATE = f"Write one more text of the kind of these, and nothing else.\n\n{EXAMPLES}\n\nText:"

NEXT = re.compile(r"\n\s*Text:.*", re.DOTALL)
"""Where a model that goes on with a prompt begins the text after the next."""


def prompt_like(
    texts: Sequence[str], shots: int, number: int, *, seed: int = 0, template: str = TEMPLATE
) -> str:
    """Write the prompt of a ``number``: so many of the texts, in an order that the number decides.

    >>> print(prompt_like(["a", "b"], 2, 1))
    Write one more text of the kind of these, and nothing else.
    <BLANKLINE>
    Text: b
    <BLANKLINE>
    Text: a
    <BLANKLINE>
    Text:
    """
    draw = random.Random(seed_for(seed % 2**64, number))
    chosen = draw.sample(texts, min(shots, len(texts)))
    return template.replace(EXAMPLES, "\n\n".join(f"Text: {text}" for text in chosen))


def written(answer: str) -> str:
    """Take one text of an answer: what stands before the next one, on one line.

    >>> written('Text: "so good"\\n\\nText: more')
    'so good'
    """
    text = NEXT.sub("", "\n" + answer.strip().removeprefix("Text:")).strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return " ".join(text.split())


def alike(text: str) -> str:
    """Give what is the same of texts that differ in spaces and case alone.

    >>> alike("So  Good")
    'so good'
    """
    return " ".join(text.casefold().split())


@dataclass
class Gathered:
    """Texts that were kept, how many were not and why, and prompts without an answer."""

    texts: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def gather(
    prompts: Iterable[str],
    ask: Callable[[str], str],
    *,
    count: int,
    known: Iterable[str] = (),
    keep: Callable[[str], str] = lambda text: "",
) -> Gathered:
    """Ask prompt after prompt until there are ``count`` texts that are new.

    Args:
        prompts: What is asked.
        ask: Answers.
        count: How many texts are enough.
        known: Texts that are not to come again.
        keep: Says why a text is left out; "" keeps it.

    >>> found = gather("abc", {"a": "good", "b": "Good", "c": "bad"}.__getitem__, count=2)
    >>> found.texts, dict(found.left)
    (['good', 'bad'], {'repeat another': 1})
    """
    found, seen = Gathered(), {alike(text) for text in known}
    for prompt in prompts:
        if len(found.texts) == count:
            break
        try:
            text = written(ask(prompt))
        except NoAnswerError as error:
            found.problems.append(str(error))
            continue
        why = "are empty" if not text else "repeat another" if alike(text) in seen else keep(text)
        seen.add(alike(text))
        if why:
            found.left[why] += 1
        else:
            found.texts.append(text)
    return found
