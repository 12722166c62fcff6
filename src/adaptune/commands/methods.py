"""`adaptune methods`: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptune.commands.options import Parser, add_json, print_json
from adaptune.method import hyperparameters
from adaptune.methods import METHODS


def run(words: Sequence[str]) -> None:
    """List the methods, read from their classes."""
    parser = Parser(prog="adaptune methods", description="List the methods.")
    add_json(parser)
    given = parser.parse_args(list(words))
    told: dict[str, dict[str, Any]] = {}
    for key, method in METHODS.items():
        said = (method.__doc__ or "").strip().splitlines()[0]
        options = {option: one.default for option, one in hyperparameters(method).items()}
        told[key] = {"summary": said, "options": options}
    if given.json:
        print_json({"methods": told})
        return
    for name, summary in told.items():
        settings = ", ".join(f"{key}={value}" for key, value in summary["options"].items())
        print(f"{name:6} {summary['summary']}\n       {settings}")
