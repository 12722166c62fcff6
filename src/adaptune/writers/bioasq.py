"""Questions of BioASQ's form: read, asked with passages and solved examples, answers understood.

Source: Can Open-Source LLMs Compete with Commercial Models? (Ateia and Kruschwitz, 2024), which
asks several models without and with examples. The words of the prompts are ours.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptune.metrics.exact_answers import factoid_row, list_row, same, yes_no_row
from adaptune.runtime.seeds import seed_for

HOW = {
    "yesno": "Answer yes or no, and nothing else.",
    "factoid": "Name at most five answers, the likeliest first, one a line, and nothing else.",
    "list": "Name all answers, one a line, and nothing else.",
}
"""Kinds of questions that have exact answers, and how these are asked for."""

LONGEST_NAME = 100
"""Characters of a name at most, and names of a list, as in BioASQ."""

MARK = re.compile(r"^\s*(?:[-*\u2022]|\d{1,3}[.)])\s+")
"""What numbers a line."""

ON = re.compile(r"^\s*(?:Passages|Question|Answer the question)\b.*", re.MULTILINE | re.DOTALL)
"""Where a model that goes on with a text begins the next question."""


@dataclass(frozen=True)
class Question:
    """A question, passages that bear on it, and what is true: names with their synonyms, or none.

    >>> one = Question("1", "Is it?", "yesno", ("It is.",), (("yes",),))
    >>> print(asked(one))
    Answer the question by the passages. Answer yes or no, and nothing else.
    <BLANKLINE>
    Passages:
    - It is.
    Question: Is it?
    Answer:
    """

    id: str
    body: str
    kind: str
    passages: tuple[str, ...] = ()
    truth: tuple[tuple[str, ...], ...] = ()


def read_questions(file: Path) -> tuple[list[Question], int]:
    """Read a file of BioASQ's JSON: questions with exact answers, and how many others there are.

    Raises:
        ValueError: If it is none, or two questions have one id.
    """
    try:
        found = json.loads(file.read_bytes())["questions"]
        questions = [_question(one) for one in found]
    except OSError as error:
        raise ValueError(f"{file} could not be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{file} is not of BioASQ\'s form, {{"questions": [{{"id", "body", "type", "snippets", '
            f'"exact_answer"}}]}} ({type(error).__name__}: {error})'
        ) from error
    exact = [one for one in questions if one.kind in HOW]
    if len({one.id for one in exact}) < len(exact):
        raise ValueError(f"{file} has two questions of one id: give each its own")
    if not exact:
        raise ValueError(f"{file} has no question of the types {', '.join(HOW)}")
    return exact, len(questions) - len(exact)


def _question(one: dict[str, Any]) -> Question:
    kind, said = str(one["type"]), one.get("exact_answer")
    texts = (str(passage["text"]) for passage in one.get("snippets") or ())
    passages = tuple(dict.fromkeys(" ".join(text.split()) for text in texts))
    truth = _names(said, kind) if said else ()
    return Question(str(one["id"]), " ".join(str(one["body"]).split()), kind, passages, truth)


def _names(said: Any, kind: str) -> tuple[tuple[str, ...], ...]:
    """Read what is true; of a factoid all names are synonyms, however they are nested."""
    if kind == "yesno":
        truth = same(said if isinstance(said, str) else said[0])
        if truth not in ("yes", "no"):
            raise ValueError(f"a question of yes or no has the exact answer {said!r}")
        return ((truth,),)
    groups = [[one] if isinstance(one, str) else one for one in _listed(said)]
    names = tuple(tuple(str(name) for name in group) for group in groups if group)
    return (tuple(name for group in names for name in group),) if kind == "factoid" else names


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def asked(question: Question, shots: Sequence[Question] = (), passages: int = 10) -> str:
    """Write a prompt: how to answer, solved examples, the question, with so many passages each."""
    solved = [f"{_shown(one, passages)} {_told(one)}" for one in shots]
    head = f"Answer the question by the passages. {HOW[question.kind]}"
    return "\n\n".join([head, *solved, _shown(question, passages)])


def _shown(one: Question, passages: int) -> str:
    lines = [f"- {text}" for text in one.passages[:passages]]
    return "\n".join(
        [*(["Passages:", *lines] if lines else []), f"Question: {one.body}", "Answer:"]
    )


def _told(one: Question) -> str:
    return "\n".join(synonyms[0] for synonyms in one.truth)


def drawn_shots(
    question: Question, known: Iterable[Question], count: int, seed: int = 0
) -> list[Question]:
    """Draw solved questions of the same kind, never the question itself, by its id or words.

    Raises:
        ValueError: If there are too few.
    """
    body = same(question.body)
    fit = [one for one in known if one.kind == question.kind and one.truth]
    fit = [one for one in fit if one.id != question.id and same(one.body) != body]
    if len(fit) < count:
        raise ValueError(
            f"{count} solved examples of the type {question.kind} are asked for, and there are "
            f"{len(fit)} beside the question: give fewer --shots, or more --examples"
        )
    fit.sort(key=lambda one: one.id)
    own = seed_for(seed % 2**64, *question.id.encode())
    return random.Random(own).sample(fit, count)


def understood(kind: str, answer: str) -> tuple[str, ...]:
    """Read an exact answer: yes or no, or names; nothing where it is none.

    Numbers of lines are taken off, and a list on one line is split at its commas. Longer lines than
    a name are none.

    >>> understood("yesno", "Yes, it is."), understood("factoid", "1. BRCA1\\n2) TP53")
    (('yes',), ('BRCA1', 'TP53'))
    >>> understood("list", "a, b; c"), understood("yesno", "Perhaps")
    (('a', 'b', 'c'), ())
    """
    answer = ON.sub("", answer).strip()
    if kind == "yesno":
        found = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
        return (found[1].lower(),) if found else ()
    lines = [MARK.sub("", line).strip() for line in answer.splitlines()]
    lines = [line for line in lines if line]
    if kind == "list" and len(lines) == 1:
        lines = [part.strip() for part in re.split(r"[,;]\s+", lines[0])]
    names = [one for one in lines if re.search(r"\w", one) and len(one) <= LONGEST_NAME]
    return tuple(names[: 5 if kind == "factoid" else LONGEST_NAME])


def row_of(question: Question, answer: Sequence[str]) -> list[float]:
    """Hold an answer against what is true: what it adds to the scores of its kind."""
    match question.kind:
        case "yesno":
            return yes_no_row(answer, question.truth[0][0])
        case "factoid":
            return factoid_row(answer, question.truth)
        case _:
            return list_row(answer, question.truth)


def exact_answer(kind: str, answer: Sequence[str]) -> Any:
    """Write an answer as BioASQ takes it.

    >>> exact_answer("yesno", ["yes"]), exact_answer("list", ["a", "b"])
    ('yes', [['a'], ['b']])
    """
    if kind == "yesno":
        return answer[0] if answer else ""
    return list(answer) if kind == "factoid" else [[name] for name in answer]


def read_answers(file: Path, questions: Sequence[Question]) -> dict[str, tuple[str, ...]]:
    """Read answers in the form of `exact_answer`; a question that is missing has none.

    Raises:
        ValueError: If it is no such file.
    """
    kinds = {one.id: one.kind for one in questions}
    found: dict[str, tuple[str, ...]] = dict.fromkeys(kinds, ())
    try:
        for one in json.loads(file.read_bytes())["questions"]:
            said = one["exact_answer"]
            if one["id"] in kinds and said:
                names = [name if isinstance(name, str) else name[0] for name in _listed(said)]
                found[one["id"]] = tuple(map(str, names))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(
            f"{file} holds no answers in BioASQ's form ({type(error).__name__}: {error}): give a "
            "file that adaptune ask wrote"
        ) from error
    return found
