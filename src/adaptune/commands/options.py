"""Options that commands share, read from signatures."""

from __future__ import annotations

import inspect
import json
from argparse import SUPPRESS, ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, Namespace  # type: ignore[attr-defined]

from adaptune.commands.outputs import make_folder as make_folder
from adaptune.commands.parser import Parser as Parser
from adaptune.commands.parser import load_yaml
from adaptune.commands.parser import record_of as record_of
from adaptune.commands.words import add_words
from adaptune.data.domains import Loading
from adaptune.data.listing import Shares
from adaptune.engine.method import Method, hyperparameters, usual_rates
from adaptune.engine.plan import USUAL, Plan
from adaptune.methods import METHODS
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json
from adaptune.tasks import TASKS
from adaptune.tasks.task import Task

SET_ELSEWHERE = {"start", "teachers", "open_set", "task", "task_options", "stride", "words"}
"""Parts of a setup that are options of another name, or of some commands alone."""


COLUMNS = {"text": "text_column", "label": "label_column", "partner": "partner_column"}
"""The options that name columns of tables of texts, or of pairs, by what lies there."""


def training_parser(command: str, description: str, *, skip: frozenset[str]) -> Parser:
    """Make a parser with all that training needs: data, setting, plan, loading, shares."""
    parser = Parser(prog=f"adaptune {command}", description=description)
    parser.add_argument(
        "data",
        nargs="?",
        type=str,
        default=SUPPRESS,  # any other default would take the place of what --config says
        help="a folder of class folders, a CSV or Parquet manifest, tars, or hf:FOLDER_OR_NAME; "
        "of texts a CSV, Parquet or JSON-lines table, or a folder of class folders of .txt; "
        "all but the last may lie in a remote store, as s3://BUCKET/FOLDER",
    )
    parser.add_argument("--out", type=str, help="the folder that results go to")
    add_ood(parser)
    add_columns(parser)
    parser.add_argument(
        "--classes", nargs="+", type=str, help="the classes to keep; by default all of the data"
    )
    parser.add_argument(
        "--domain", type=str, help="the domain of a manifest to train on; by default its first"
    )
    parser.add_argument(
        "--source",
        action="extend",
        nargs="+",
        type=str,
        default=[],
        metavar="NAME=DIR",
        help="further labelled domains to train on: NAME=DIR, or NAME of a manifest's domain",
    )
    parser.add_argument(
        "--target",
        type=str,
        metavar="DIR",
        help="what to adapt to without its labels: a folder, a manifest, NAME=DIR, or a domain of "
        "DATA; its labels serve the test alone",
    )
    if "from" not in skip:
        parser.add_argument(
            "--from",
            type=str,
            metavar="RUN",
            help="the finished run, or saved network, to start from; its data are never opened",
        )
        parser.add_argument(
            "--oracle",
            action="store_true",
            help="answer a method that asks for labels with the target's own; for experiments",
        )
    parser.add_argument(
        "--teacher",
        nargs="+",
        type=str,
        default=[],
        metavar="RUN",
        help="finished runs, or saved networks, that a method learns from; they stay as they are",
    )
    add_words(parser)
    if "open_set" not in skip:
        add_open_set(parser)
    parser.add_argument("--config", action=ActionConfigFile, help="a config.yaml to start from")
    for part in (Setup, Plan, Loading, Shares):
        taken = {"seed", "track"} if part is Loading else {*SET_ELSEWHERE, *skip}
        parser.add_class_arguments(part, skip={f.name for f in fields(part)} & taken)
    add_json(parser)
    return parser


def add_ood(parser: Parser) -> None:
    """Let a command take other domains; given twice, it takes both."""
    parser.add_argument(
        "--ood",
        action="extend",
        nargs="+",
        type=str,
        default=[],
        metavar="NAME=DIR",
        help="folders or manifests of other domains to test on",
    )


def add_columns(parser: Parser) -> None:
    """Let a command be told how the columns of tables of texts are called."""
    for what, option in COLUMNS.items():
        of = "pairs" if what == "partner" else "texts"
        usual = "partner, or else caption" if what == "partner" else what
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=str,
            help=f"of {of}: the column of the {what} in tables, by default {usual}",
        )


def add_open_set(parser: Parser) -> None:
    """Let a command test on images of none of the classes."""
    parser.add_argument(
        "--open-set",
        action="store_true",
        help="test on images of further classes too, which are right when they are called unknown",
    )


def add_json(parser: Parser) -> None:
    """Let a command print its results as JSON, for other programs."""
    parser.add_argument("--json", action="store_true", help="print results as JSON on stdout")


def add_port(parser: Parser) -> None:
    """Let a command that serves a page be told the port."""
    told = "the port; by default a free one"
    parser.add_argument("--port", type=int, default=0, between=(0, 65535), help=told)


def add_method(parser: Parser, method: type[Method], optimizer: str = "sgd") -> None:
    """Add a method's hyper-parameters; rates begin with what is usual for an optimiser."""
    parser.add_class_arguments(method, skip={"net", "task", "teacher", "teachers"})
    if optimizer != "sgd" and optimizer in USUAL:
        parser.set_defaults(usual_rates(method, USUAL[optimizer]))


def add_task_choice(parser: Parser, words: Sequence[str]) -> str:
    """Let a command choose its task, and add the options of the one that the words choose."""
    chosen = find_choice(words, "task", Setup.task)
    parser.add_argument("--task", choices=[*TASKS], default=Setup.task, help="what is predicted")
    if chosen in TASKS:
        add_task(parser, TASKS[chosen])
    return chosen


def add_task(parser: Parser, task: type[Task]) -> None:
    """Add a task's options: the arguments that are given by name alone, and where masks are."""
    if task.labels == "mask":
        parser.add_argument(
            "--stride",
            type=int,
            default=Setup.stride,
            help="how many pixels of the input neighbouring features lie apart at the least",
        )
        add_masks(parser)
    if own := hyperparameters(task):
        parser.add_class_arguments(task, skip=set(inspect.signature(task).parameters) - set(own))


def add_masks(parser: Parser) -> None:
    """Let a command be told where masks are, and what their values mean."""
    parser.add_argument(
        "--labels",
        action="extend",
        nargs="+",
        type=str,
        default=[],
        metavar="[NAME=]DIR",
        help="folders of masks that are named as the images: DIR those of DATA, NAME=DIR those of "
        "another domain; none where a domain's folder holds images and masks, or a table names "
        "them",
    )
    parser.add_argument(
        "--label-table",
        type=str,
        metavar="FILE",
        help="which value of a mask is which class: a CSV of name,index or name,r,g,b, or names, "
        "one a line; by default classes are counted",
    )


def required(parser: Parser, given: Namespace, *names: str) -> None:
    """Refuse, with exit code 2, what was left out."""
    for name in names:
        if not given.get(name):
            parser.error(f"{name.upper() if name == 'data' else '--' + name} is missing")


def setting_of(given: Namespace) -> Setup:
    """Say what is adapted, as the arguments do."""
    own = hyperparameters(TASKS[given.task]) if "task" in given else {}
    options = {name: given[name] for name in own}
    begun, teachers = given.get("from") or "", tuple(given.get("teacher") or ())
    words = tuple(given.get("words") or ())
    told: dict[str, Any] = {"start": begun, "teachers": teachers, "words": words}
    return record_of(Setup, given, **told, task_options=options)


def find_method_name(words: Sequence[str], default: str = "daft") -> str:
    """Find the method that the words ask for; see `find_choice`."""
    return find_choice(words, "method", default)


def find_choice(words: Sequence[str], option: str, default: str) -> str:
    """Find what the words choose, by option or by config file, before they are parsed.

    Options of a parser may depend on it.

    Raises:
        ValueError: If a config file holds no name there.

    >>> find_choice(["data", "--method", "ft"], "method", "daft")
    'ft'
    >>> find_choice(["--task=x"], "task", "classification")
    'x'
    """
    name = default
    for at, word in enumerate(words):
        key, equals, value = word.partition("=")
        value = value if equals else next(iter(words[at + 1 :]), "")
        if key == "--config" and Path(value).is_file():
            name = read_config(Path(value)).get(option, name)
            if not isinstance(name, str):
                raise ValueError(
                    f"{value} should name one {option}, as in {option}: {default}; got {name}"
                )
        elif key == f"--{option}":
            name = value
    return name


def read_config(file: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        ValueError: If it is no YAML, or holds anything but settings.
    """
    try:
        config = load_yaml(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ValueError(f"{file} could not be read as YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds no settings: expected lines such as method: daft")
    return config


def method_options(name: str, settings: Sequence[str], optimizer: str = "sgd") -> dict[str, Any]:
    """Read a method's ``OPTION=VALUE`` settings, checked against its signature; defaults fill in.

    >>> method_options("ft", ["lr=0.1"])
    {'lr': 0.1, 'batchnorm': 'train'}
    >>> method_options("ft", [], "adamw")["lr"]
    0.0003
    """
    parser = Parser(prog=f"--set {name}", exit_on_error=False)
    add_method(parser, METHODS[name], optimizer)
    try:
        return dict(parser.parse_args(as_words(settings)).as_dict())
    except ArgumentError as error:
        known = ", ".join(hyperparameters(METHODS[name]))
        raise ValueError(
            f"the settings of {name} are {known}, and {' '.join(settings)} does not fit: {error}"
        ) from error


def as_words(settings: Sequence[str]) -> list[str]:
    """Write ``OPTION=VALUE`` settings as words of a command.

    >>> as_words(["average_decay=0.99"])
    ['--average-decay=0.99']
    """
    pairs = (setting.partition("=") for setting in settings)
    return [f"--{option.replace('_', '-')}={value}" for option, _, value in pairs]


def print_json(results: Mapping[str, Any]) -> None:
    """Print results as JSON on stdout."""
    print(json.dumps(to_json(results), indent=1))
