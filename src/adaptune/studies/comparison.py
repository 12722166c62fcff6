"""Several methods on one domain or on each in turn: tuned alike, run, counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from adaptune.data.domains import DomainData, quietly
from adaptune.engine.method import ranges
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.terminal import Terminal
from adaptune.results.ranking import across, comparable, versus, width
from adaptune.results.summary import summarize
from adaptune.runs.setup import Setup
from adaptune.studies.grid import Failure, spread
from adaptune.studies.search import Search, best_of, search, space

RATES = tuple(10 ** (half / 2) for half in range(-8, 3))
"""Body rates that robustness is measured at: five decades, two a decade."""


@dataclass(frozen=True)
class Tuning:
    """One method to be tuned on one domain, in its own folder."""

    folder: Path
    domain: str
    search: Search

    def __str__(self) -> str:
        return f"{self.search}, {self.domain}"


def plan_tuning(
    methods: Mapping[str, Mapping[str, Any]],
    domains: Mapping[str, DomainData],
    setting: Setup,
    plan: Plan,
    *,
    budget: int,
    folder: Path,
) -> list[Tuning]:
    """Plan the same number of trials for each method on each domain, on ID validation alone.

    A method without anything to search, such as ``lp``, is not tuned.
    """
    return [
        Tuning(
            folder / domain / name,
            domain,
            Search(name, name, own, space(name), without_tests(data), setting, plan, budget),
        )
        for domain, data in domains.items()
        for name, own in methods.items()
        if ranges(METHODS[name])
    ]


def without_tests(data: DomainData) -> DomainData:
    """Give what a search may see, ready to be sent to another process."""
    return data.tracked(quietly).without_tests()


def tune(
    plans: Sequence[Tuning], *, jobs: int, terminal: Terminal
) -> dict[str, dict[str, dict[str, Any]]]:
    """Run the searches; give the values chosen and all trials, by domain and method.

    Raises:
        ValueError: If one failed; what the others found is kept in their folders.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for number, trials in spread(_tune, plans, jobs=jobs, terminal=terminal, label="searches"):
        if isinstance(trials, Failure):
            raise ValueError(f"{trials.cell} failed: {trials.reason}")
        one = plans[number]
        values = best_of(trials)["values"]
        found.setdefault(one.domain, {})[one.search.name] = {"values": values, "trials": trials}
    return found


def _tune(one: Tuning, terminal: Terminal) -> list[dict[str, Any]]:
    return search(one.search, folder=one.folder, terminal=terminal)


def summary_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count runs: a summary a method, and over several training domains who beats whom.

    Over several domains only those and the seeds count that every method has a run of.
    """
    if len({run["domain"] for run in runs}) == 1:
        return {"summary": summarize(runs)}
    runs = comparable(runs)
    domains = list(dict.fromkeys(run["domain"] for run in runs))
    names = list(dict.fromkeys(run["method"] for run in runs))
    return {
        "summary": across(runs),
        "by_domain": {d: summarize([r for r in runs if r["domain"] == d]) for d in domains},
        "versus": [versus(runs, one, other) for one in names for other in names if one != other],
    }


def robustness(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count runs at several rates: accuracy by rate for each method, and the width of its plateau.

    ``width`` is in decades of the rate, within 3 points of the best, at home and elsewhere; a rate
    at which any run diverged is left out.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(run["base"] for run in runs if "lr" in run["options"]):
        at: dict[float, list[Mapping[str, Any]]] = {}
        for run in runs:
            if run["base"] == name:
                at.setdefault(run["options"]["lr"], []).append(run)
        whole = max(map(len, at.values()))
        curves = {
            key: [
                [rate, mean(run[key] for run in at[rate])]
                for rate in sorted(at)
                if len(at[rate]) == whole
            ]
            for key in ("id_accuracy", "ood_accuracy")
            if runs[0].get(key) is not None
        }
        widths = {key: width([(x, y) for x, y in points]) for key, points in curves.items()}
        found[name] = {"curves": curves, "width": widths}
    return found
