"""What was asked for, written so that ``--config`` reads it back from any folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from adaptune.data.sources import named_folders
from adaptune.run import plain


def config_of(given: Namespace, *, leave_out: Sequence[str]) -> dict[str, Any]:
    """Give arguments as settings that ``--config`` reads back, from any folder."""
    left = {"config", "json", *leave_out}
    kept = {key: value for key, value in given.as_dict().items() if key not in left}
    for name in ("data", "from"):
        if given.get(name):
            kept[name] = Path(given[name]).absolute()
    kept["ood"] = [f"{k}={path.absolute()}" for k, path in named_folders(given.ood).items()]
    kept["source"] = [located(word) for word in given.source]
    if given.target:
        whole = Path(given.target)
        kept["target"] = str(whole.absolute()) if whole.exists() else located(given.target)
    return kept


def located(word: str) -> str:
    """Write NAME=DIR so that it can be found from any folder; NAME alone stays as it is."""
    name, equals, place = word.partition("=")
    return f"{name}={Path(place).absolute()}" if equals else word


def config_text(given: Namespace, *, leave_out: Sequence[str]) -> str:
    """Write arguments as YAML; see `config_of`."""
    return yaml_text(config_of(given, leave_out=leave_out))


def yaml_text(settings: Mapping[str, Any]) -> str:
    """Write settings as YAML; those that are None are left to their defaults.

    >>> yaml_text({"lr": 0.1, "clip": None})
    'lr: 0.1\\n'
    """
    known = {key: value for key, value in plain(settings).items() if value is not None}
    return yaml.safe_dump(known, sort_keys=False)
