"""`adaptune fit`: one method, one run."""

from __future__ import annotations

import shlex
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from adaptune.commands.choices import as_choices, methods_for
from adaptune.commands.config import config_text
from adaptune.commands.open_data import open_data
from adaptune.commands.options import (
    add_method,
    add_task_choice,
    find_choice,
    find_method_name,
    print_json,
    record_of,
    required,
    setting_of,
    training_parser,
)
from adaptune.data.annotators import PeopleAnnotator
from adaptune.engine.method import hyperparameters, refuse_task
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.page import write_run_report
from adaptune.report.questions import write_questions
from adaptune.report.terminal import Terminal
from adaptune.results.summary import summarize
from adaptune.runs.experiment import experiment
from adaptune.runs.folder import Run
from adaptune.runs.trackers import TRACKERS, tracker_names
from adaptune.runtime.signals import Stopped
from adaptune.tasks import TASKS
from adaptune.types import Needs


def run(words: Sequence[str]) -> None:
    """Train, measure, report."""
    words = _resumed(list(words))
    name = find_method_name(words)
    parser = training_parser(
        "fit",
        f"Fine-tune a pretrained network with one method (options shown: those of {name}).",
        skip=frozenset(),
    )
    task = add_task_choice(parser, words)
    parser.add_argument(
        "--method",
        choices=sorted(METHODS),  # what cannot be trained is refused where it is said why
        metavar=as_choices(methods_for(task)),
        default="daft",
        help="what to do",
    )
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument(
        "--log",
        type=str,
        default="",
        metavar="NAMES",
        help=f"trackers that the metrics go to as well, with commas: {', '.join(TRACKERS)}",
    )
    # Settings of runs that were begun by earlier versions have it.
    parser.add_argument("--tensorboard", action="store_true", help=SUPPRESS)
    if name in METHODS:
        add_method(parser, METHODS[name], find_choice(words, "optimizer", Plan.optimizer))
    given = parser.parse_args(words)
    needs = METHODS[name].needs if name in METHODS else Needs()
    required(parser, given, "out")
    refuse_task(METHODS[name], TASKS[task])
    if not given.get("from") and not given.get("data"):
        required(parser, given, "data" if needs.labeled else "from")
    folder = Path(given.out)
    if (folder / "metrics.jsonl").exists() and not given.resume:
        raise ValueError(
            f"{folder} holds a run already: choose another --out, or go on with --resume"
        )
    plan, setting = record_of(Plan, given), setting_of(given)
    fabric = setting.fabric()  # before anything is written: it may bring up other processes
    out = Run(folder, log=tracker_names(given.log + ",tensorboard" * given.tensorboard))
    quiet = not out.writes
    with out.locked(), Terminal(quiet=quiet) as terminal, _saying_how_to_go_on(folder):
        data = open_data(given, seed=plan.seed, track=terminal.track)
        if not given.oracle:
            data = replace(data, answers=PeopleAnnotator(folder / "questions.csv", write_questions))
        for note in data.notes:
            terminal.say(f"note: {note}")
        results = experiment(
            out,
            METHODS[name],
            {key: given[key] for key in hyperparameters(METHODS[name])},
            data,
            setting,
            plan,
            name=name,
            terminal=terminal,
            config=config_text(given, leave_out=("out", "resume", "tensorboard")),
            resume=given.resume,
            fabric=fabric,
        )
        if out.writes:
            page = write_run_report(folder)
            terminal.results([results], summarize([results]))
            terminal.say(f"network {out.best}\nreport  {page}")
    if given.json and out.writes:
        print_json(results.to_dict())


@contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Where a run is there to go on with, say how."""
    again = f"go on with: adaptune fit --resume --out {shlex.quote(str(folder))}"
    try:
        yield
    except Stopped as stopped:
        if not (folder / "config.yaml").is_file():
            raise
        said = f"{stopped.kept}; " if stopped.kept else ""
        raise type(stopped)(stopped.number, said + again) from None
    except OSError as error:
        if not (folder / "config.yaml").is_file():
            raise
        raise OSError(f"{error}; then {again}") from error


def _resumed(words: list[str]) -> list[str]:
    """Take a resumed run's own settings, unless others are given."""
    if "--resume" not in words or any(word.startswith("--config") for word in words):
        return words
    at = [i for i, word in enumerate(words) if word == "--out" or word.startswith("--out=")]
    if not at:
        return words
    word = words[at[0]]
    folder = word.partition("=")[2] or next(iter(words[at[0] + 1 :]), "")
    config = Path(folder) / "config.yaml"
    return ["--config", str(config), *words] if config.is_file() else words
