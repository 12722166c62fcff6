"""Settings of single methods among several, and of the plans that they are trained by."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from adaptune.commands.choices import AT_TEST_TIME, TRAINING
from adaptune.commands.options import as_words, method_options
from adaptune.commands.parser import Parser
from adaptune.engine.method import hyperparameters
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS

Settings = dict[str, dict[str, Any]]
"""Settings by method."""

PLANNED = {one.name for one in fields(Plan)} - {"seed"}
"""What a method's own plan may say; seeds are a comparison's."""


def settings_by_method(
    names: Sequence[str], given: Sequence[str], optimizer: str = Plan.optimizer
) -> tuple[Settings, Settings]:
    """Read ``METHOD.OPTION=VALUE``: all settings of each method, and what is said of its plan.

    Rates that are not told are those that are usual for the method's ``optimizer``.

    Raises:
        ValueError: If there is no such method or option.

    >>> settings_by_method(["lp-ft"], ["lp-ft.lr=0.1", "lp-ft.interpolate=0.5"])[1]
    {'lp-ft': {'interpolate': 0.5}}
    """
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no method {name!r}: there are {', '.join(TRAINING)}")
        if name in AT_TEST_TIME:
            raise ValueError(f"{name} adapts to a stream of images: run adaptune stream RUN DIR")
    own: dict[str, list[str]] = {name: [] for name in names}
    planned: dict[str, list[str]] = {name: [] for name in names}
    for setting in given:
        name, dot, rest = setting.partition(".")
        if not dot or "=" not in rest or name not in own:
            raise ValueError(
                f"expected METHOD.OPTION=VALUE with one of {', '.join(names)}, such as "
                f"ft.lr=0.01, and got {setting!r}"
            )
        of_plan = _option(rest) in PLANNED - hyperparameters(METHODS[name]).keys()
        (planned if of_plan else own)[name].append(rest)
    plans = {name: _plan_options(name, settings) for name, settings in planned.items()}
    return {
        name: method_options(name, settings, plans[name].get("optimizer", optimizer))
        for name, settings in own.items()
    }, plans


def _plan_options(name: str, settings: Sequence[str]) -> dict[str, Any]:
    """Read what is said of a plan; what is not said is left out."""
    parser = Parser(prog=f"--set {name}", exit_on_error=False)
    parser.add_class_arguments(Plan)
    try:
        given = parser.parse_args(as_words(settings))
    except ArgumentError as error:
        raise ValueError(
            f"{' '.join(settings)} does not fit the plan of {name}: {error}"
        ) from error
    return {option: given[option] for option in map(_option, settings)}


def _option(setting: str) -> str:
    """Give the option that ``OPTION=VALUE`` sets."""
    return setting.partition("=")[0].replace("-", "_")
