"""What was asked for, written so that ``--config`` reads it back from any folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from adaptune.commands.parser import NUMBER, record_of
from adaptune.data.class_words import is_template
from adaptune.data.words import absolute_path, absolute_place, absolute_word, named_folders
from adaptune.engine.plan import Plan
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json
from adaptune.tasks.classification import Classification


class Writer(yaml.SafeDumper):
    """Writes YAML in which whatever might be read as something else than words has quotes."""


Writer.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+0123456789"))


def config_of(given: Namespace, *, leave_out: Sequence[str]) -> dict[str, Any]:
    """Give arguments as settings that ``--config`` reads back, from any folder."""
    plan = record_of(Plan, given)
    left = {"config", "json", *leave_out, *(vars(plan).keys() - plan.settings().keys())}
    left |= {"shots_seed"} if given.get("shots") is None else set()
    kept = {key: value for key, value in given.as_dict().items() if key not in left}
    if given.get("data"):
        kept["data"] = absolute_path(given.data)
    if given.get("from"):
        kept["from"] = Path(given["from"]).absolute()
    if "teacher" in kept:
        kept["teacher"] = [Path(one).absolute() for one in kept["teacher"]]
        if not kept["teacher"]:
            del kept["teacher"]
    if not kept.get("words"):
        own: dict[str, Any] = {
            "words": [],
            "words_average": Setup.words_average,
            "zero_shot_head": Setup.zero_shot_head,
        }
        kept = {key: value for key, value in kept.items() if own.get(key, ...) != value}
    else:
        kept["words"] = [one if is_template(one) else absolute_path(one) for one in given.words]
    if given.get("weights") and Path(given.weights).is_file():
        kept["weights"] = Path(given.weights).absolute()
    kept["ood"] = [f"{k}={absolute_path(path)}" for k, path in named_folders(given.ood).items()]
    kept["source"] = [absolute_word(word) for word in given.source]
    if given.target:
        kept["target"] = absolute_place(given.target)
    if given.get("labels"):
        kept["labels"] = [absolute_place(word) for word in given.labels]
    if given.get("label_table"):
        kept["label_table"] = Path(given.label_table).absolute()
    if given.get("task") == Setup.task:
        del kept["task"]
    if given.get("score") == Classification.score:
        del kept["score"]
    return kept


def config_text(given: Namespace, *, leave_out: Sequence[str]) -> str:
    """Write arguments as YAML; see `config_of`."""
    return yaml_text(config_of(given, leave_out=leave_out))


def yaml_text(settings: Mapping[str, Any]) -> str:
    """Write settings as YAML; those that are None are left to their defaults.

    >>> yaml_text({"lr": 0.1, "clip": None, "domain": "1e3"})
    "lr: 0.1\\ndomain: '1e3'\\n"
    """
    known = {key: value for key, value in to_json(settings).items() if value is not None}
    return yaml.dump(known, Dumper=Writer, sort_keys=False)
