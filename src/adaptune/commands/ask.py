"""`adaptune ask`: questions of BioASQ's form, answered by a language model and scored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from adaptune.commands.options import Parser, add_json, print_json
from adaptune.commands.outputs import writable_file
from adaptune.commands.writers import add_writer, first_of, keeping, open_asked
from adaptune.metrics.exact_answers import question_scores, score_gains
from adaptune.report.terminal import Terminal
from adaptune.results.score import Score
from adaptune.runtime.files import write_text
from adaptune.runtime.limits import MOST
from adaptune.writers.bioasq import (
    HOW,
    Question,
    asked,
    drawn_shots,
    exact_answer,
    read_answers,
    read_questions,
    row_of,
    understood,
)
from adaptune.writers.opening import KINDS
from adaptune.writers.passages import from_passages
from adaptune.writers.recorded import Numbered, Recorder
from adaptune.writers.writer import NoAnswerError

Answers = dict[str, tuple[str, ...]]


def run(words: Sequence[str]) -> None:
    """Ask every question once, write the answers, and score those whose truth is known."""
    given = _parser().parse_args(list(words))
    questions, others = read_questions(Path(given.questions))
    known = read_questions(Path(given.examples))[0] if given.examples else questions
    rival = read_answers(Path(given.against), questions) if given.against else None
    prompts = [
        asked(one, drawn_shots(one, known, given.shots, given.seed), given.passages)
        for one in questions
    ]
    out = writable_file(given.out, "answers.json")
    ask = Numbered(from_passages) if given.writer == "passages" else open_asked(given, out)
    with Terminal() as terminal, keeping(ask):
        told, problems = _ask(ask, prompts, terminal)
        answers = {
            one.id: understood(one.kind, told.get(prompt, ""))
            for one, prompt in zip(questions, prompts, strict=True)
        }
        write_text(out, _submitted(questions, answers))
        rows, theirs = _rows(questions, answers), _rows(questions, rival or {})
        scores = {kind: question_scores(kind, own) for kind, own in rows.items()}
        gains = {kind: score_gains(kind, own, theirs[kind]) for kind, own in rows.items() if rival}
        empty = Counter(one.kind for one in questions if not answers[one.id])
        terminal.console.print(_table(questions, scores, gains, empty))
        left = f"; {others} of other types were left out" if others else ""
        lost = f"; {len(problems)} prompts have no answer{first_of(problems)}" if problems else ""
        terminal.say(f"{len(questions)} questions, {ask.asked} asked now{left}{lost}: {out}")
    if given.json:
        said = {"scores": scores, "gains": gains, "not_understood": empty, "left_out": others}
        print_json(json.loads(json.dumps(said, default=vars)))


def _ask(
    ask: Recorder | Numbered, prompts: Sequence[str], terminal: Terminal
) -> tuple[dict[str, str], list[str]]:
    """Ask each prompt once: answers by prompt, and why others have none."""
    told: dict[str, str] = {}
    problems: list[str] = []
    once = dict.fromkeys(prompts)
    for prompt in terminal.track(once, "asking", len(once)):
        try:
            told[prompt] = ask(prompt)
        except NoAnswerError as error:
            problems.append(str(error))
    return told, problems


def _rows(questions: Sequence[Question], answers: Answers) -> dict[str, list[list[float]]]:
    """Give what each question whose truth is known adds to the scores, by kind."""
    found: dict[str, list[list[float]]] = {}
    for one in sorted(questions, key=lambda one: [*HOW].index(one.kind)):
        if one.truth:
            found.setdefault(one.kind, []).append(row_of(one, answers.get(one.id, ())))
    return found


def _submitted(questions: Sequence[Question], answers: Answers) -> str:
    rows = [
        {"id": one.id, "exact_answer": exact_answer(one.kind, answers[one.id])} for one in questions
    ]
    return json.dumps({"questions": rows}, indent=1)


def _table(
    questions: Sequence[Question],
    scores: dict[str, dict[str, Score]],
    gains: dict[str, dict[str, Score]],
    empty: Counter[str],
) -> Table:
    table = Table("questions", "score", "percent", "95%", box=None)
    if gains:
        table.add_column("better by")
    for kind, found in scores.items():
        number = sum(one.kind == kind for one in questions)
        name = f"{number} {kind}, {empty[kind]} not understood"
        for score in found.values():
            gain = gains.get(kind, {}).get(score.name)
            more = [f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"] if gain else []
            spread = f"{score.low:.1f} to {score.high:.1f}"
            table.add_row(name, score.name, f"{score.value:.1f}", spread, *more)
            name = ""
    return table


def _parser() -> Parser:
    parser = Parser(
        prog="adaptune ask",
        description="Ask a language model questions of yes or no, for a name or for a list of "
        "names, with passages and solved examples, and score the answers as BioASQ does.",
    )
    parser.add_argument("questions", type=str, help="a JSON file of BioASQ's task B")
    kinds = f"{KINDS}; passages is no model, but what most passages name"
    add_writer(parser, "answers.json", "the file to write, in the form that BioASQ takes", kinds)
    parser.add_argument(
        "--shots", type=int, default=0, between=(0, 100), help="solved examples before a question"
    )
    parser.add_argument(
        "--examples",
        type=str,
        metavar="FILE",
        help="where these are drawn from, never the question itself; by default from QUESTIONS",
    )
    parser.add_argument(
        "--passages", type=int, default=10, between=(0, MOST), help="snippets shown, at most"
    )
    parser.add_argument(
        "--against", type=str, metavar="FILE", help="other answers, to be compared with"
    )
    add_json(parser)
    return parser
