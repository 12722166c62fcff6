"""`adaptune search`: find a method's hyper-parameters on ID validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.choices import MOST_JOBS, MOST_TRIALS, SEARCHED, TRAINING, as_choices
from adaptune.commands.config import config_of, yaml_text
from adaptune.commands.executor import add_executor, found_by_workers
from adaptune.commands.open_data import open_data
from adaptune.commands.options import (
    add_method,
    add_task_choice,
    find_choice,
    find_method_name,
    make_folder,
    print_json,
    record_of,
    required,
    setting_of,
    training_parser,
)
from adaptune.engine.method import hyperparameters, teachers_of
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.page import write_search_report
from adaptune.report.terminal import Terminal
from adaptune.results.score import Measure
from adaptune.results.trial import Trial, best_of
from adaptune.runs.teachers import refuse_teachers
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.studies.cluster import count_workers
from adaptune.studies.comparison import without_tests
from adaptune.studies.grid import Failure, spread
from adaptune.studies.search import Search, search, space

BODY_RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
HEAD_RATES = (10.0, 3.0, 1.0, 0.3, 0.1)
FIRST_HEAD_RATE = 1.0
"""The head's rate while the paper's first step looks for the body's."""

TAUGHT = [name for name in SEARCHED if teachers_of(METHODS[name]) != "none"]
"""Methods that a search trains only if it is given their teachers."""

OWN = ("out", "budget", "over", "storage", "study", "jobs", "executor", "paper")
"""Options that a single run has no use for."""


@dataclass(frozen=True)
class Study:
    """A search and where it is kept."""

    search: Search
    folder: Path
    storage: str | None

    def __str__(self) -> str:
        return str(self.search)


def run(words: Sequence[str]) -> None:
    """Search, and write the config of the best trial."""
    words = list(words)
    name = find_method_name(words)
    parser = training_parser(
        "search",
        f"Find the hyper-parameters of one method on ID validation; no test image is read (options "
        f"shown: those of {name}). An interrupted search goes on when it is run again.",
        skip=frozenset({"devices", "from", "open_set", "unknown_above"}),
    )
    parser.add_argument(
        "--method",
        choices=sorted(METHODS),  # what cannot be trained is refused where it is said why
        metavar=as_choices(SEARCHED),
        default="daft",
        help=f"what to tune; {', '.join(TAUGHT)} learn from other networks too: give --teacher",
    )
    parser.add_argument(
        "--budget", type=int, default=12, between=(1, MOST_TRIALS), help="how many trials"
    )
    parser.add_argument(
        "--over",
        nargs="+",
        type=str,
        help="what to search; by default all that the method gives a range",
    )
    parser.add_argument(
        "--storage",
        type=str,
        help="a database URL that optuna takes, or a journal file, for many machines to share",
    )
    parser.add_argument("--study", type=str, help="the study's name in the storage")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        between=(1, MOST_JOBS),
        help="trials at a time, each in a process",
    )
    add_executor(parser)
    parser.add_argument(
        "--paper",
        action="store_true",
        help="DAFT's own two searches instead: the body's rate without conversion, then the head's",
    )
    add_task_choice(parser, words)
    if name in METHODS:
        add_method(parser, METHODS[name], find_choice(words, "optimizer", Plan.optimizer))
    given = parser.parse_args(words)
    if name in TRAINING and name not in SEARCHED:
        raise ValueError(
            f"a search trains from a backbone, and {name} goes on from a finished run: adaptune "
            f"compare DATA --from RUN --target DIR --methods {name} --tune {given.budget} tunes it"
        )
    required(parser, given, "data", "out")
    refuse_teachers(METHODS[given.method], given.teacher)
    given = found_by_workers(given) if given.executor else given
    folder = make_folder(given.out)
    with Terminal() as terminal:
        found = _paper(given, terminal) if given.paper else _searched(given, terminal)
        config = folder / "config.yaml"
        write_text(config, yaml_text(config_of(given, leave_out=OWN) | dict(found.values)))
        write_text(folder / "results.json", json.dumps(to_json(found), indent=1) + "\n")
        _tell(terminal, found.trials, found.best.measure)
        page = write_search_report(folder)
        terminal.say(f"config  {config}\nreport  {page}")
        terminal.say(f"next    adaptune fit --config {config} --out NEW_FOLDER")
    if given.json:
        print_json(found.to_dict())


@dataclass(frozen=True)
class Found:
    """What a search found: all values of the config, the best trial and all others."""

    values: Mapping[str, Any]
    best: Trial
    trials: Sequence[Trial]

    def to_dict(self) -> dict[str, Any]:
        """Give what stands in ``results.json``."""
        return {
            "values": self.values,
            "best": self.best,
            "trials": self.trials,
            "machine": describe_machine(),
            "score": self.best.measure,
        }


def _searched(given: Namespace, terminal: Terminal) -> Found:
    """Run one search over the method's ranges."""
    options = {key: given[key] for key in hyperparameters(METHODS[given.method])}
    over = space(given.method, given.over, given.optimizer)
    study = _study(given, "", options, over, given.budget, terminal)
    trials = _share(study, given, terminal)
    best = best_of(trials)
    return Found(best.values, best, trials)


def _paper(given: Namespace, terminal: Terminal) -> Found:
    """Run DAFT's two searches: the body's rate without conversion, then with it the head's.

    Source: Ha, Jeong and Lee, 2024, and the settings that their code comes with.
    """
    if given.method != "daft":
        raise ValueError(f"--paper is DAFT's search, and --method is {given.method}")
    options = {key: given[key] for key in hyperparameters(METHODS["daft"])}
    options |= {"head": "published", "head_lr": FIRST_HEAD_RATE, "batchnorm": "eval"}
    first = _study(given, "-body", options, {"lr": BODY_RATES}, len(BODY_RATES), terminal)
    trials = _share(first, given, terminal)
    options |= {"lr": best_of(trials).values["lr"], "batchnorm": "converted"}
    second = _study(given, "-head", options, {"head_lr": HEAD_RATES}, len(HEAD_RATES), terminal)
    more = _share(second, given, terminal)
    best = best_of(more)
    return Found({**options, **best.values}, best, [*trials, *more])


def _study(
    given: Namespace,
    part: str,
    options: Mapping[str, Any],
    over: Mapping[str, Any],
    budget: int,
    terminal: Terminal,
) -> Study:
    plan = record_of(Plan, given)
    data = open_data(given, seed=plan.seed, track=terminal.track)
    data = without_tests(data) if given.jobs > 1 or given.executor else data.without_tests()
    name = given.study or f"{given.method}-{Path(given.data).stem}"
    setting = setting_of(given)
    what = Search(name + part, given.method, options, over, data, setting, plan, budget)
    return Study(what, Path(given.out), given.storage)


def _share(study: Study, given: Namespace, terminal: Terminal) -> list[Trial]:
    """Let several processes work on one study, here or by the workers of an executor."""
    executor = given.executor
    parts = spread(
        _work,
        [study] * (count_workers(executor) if executor else given.jobs),
        jobs=given.jobs,
        terminal=terminal,
        label="processes",
        executor=executor,
    )
    for _, done in parts:
        if isinstance(done, Failure):
            raise ValueError(f"{done.cell} failed: {done.reason}")
    return _work(study, terminal)


def _work(study: Study, terminal: Terminal) -> list[Trial]:
    return search(study.search, folder=study.folder, storage=study.storage, terminal=terminal)


def _tell(terminal: Terminal, trials: Sequence[Trial], measure: Measure) -> None:
    """Print the trials, the best first."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    terminal.table(
        f"trials, by {measure.name} on ID validation" + f" in {measure.unit}" * bool(measure.unit),
        ["trial", *names, measure.name, "epochs", "ended"],
        [
            [
                str(trial.number),
                *(f"{trial.values[n]:.4g}" if n in trial.values else "" for n in names),
                "" if trial.reached is None else measure.number(trial.reached),
                str(trial.epochs),
                "diverged" if trial.diverged else trial.state,
            ]
            for trial in sorted(trials, key=lambda trial: trial.order, reverse=True)
        ],
    )
