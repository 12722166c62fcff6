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
from adaptune.results.by_test import by_test
from adaptune.results.images import Subjects
from adaptune.results.ranking import Place, across, comparable, reached, versus, width
from adaptune.results.run import RunResults
from adaptune.results.score import Measure
from adaptune.results.summary import best_method, summarize
from adaptune.results.trial import Trial, best_of
from adaptune.runs.setup import Setup
from adaptune.studies.grid import Failure, spread
from adaptune.studies.search import Search, search, space

RATES = tuple(10 ** (half / 2) for half in range(-8, 3))
"""Body rates that robustness is measured at: five decades, two a decade."""


WITHIN = 3.0
"""Points of the best rate's score within which another counts as good as it."""


@dataclass(frozen=True)
class Tuned:
    """What tuning chose for a method on a domain, and the trials that it chose from."""

    values: Mapping[str, float]
    trials: Sequence[Trial]

    def to_dict(self) -> dict[str, Any]:
        """Give both as JSON has them."""
        return {"values": dict(self.values), "trials": [one.to_dict() for one in self.trials]}


@dataclass(frozen=True)
class Tuning:
    """One method to be tuned on one domain, in its own folder."""

    folder: Path
    domain: str
    search: Search

    def __str__(self) -> str:
        return f"{self.search}, {self.domain}"


def plan_tuning(
    variants: Mapping[str, tuple[str, Mapping[str, Any], Plan]],
    domains: Mapping[str, DomainData],
    setting: Setup,
    *,
    budget: int,
    folder: Path,
) -> list[Tuning]:
    """Plan the same number of trials for each variant on each domain, on ID validation alone.

    A variant is a method, its options and a plan. A method without anything to search, such as
    ``lp``, is not tuned.
    """
    plans = []
    for domain, data in domains.items():
        for name, (method, own, plan) in variants.items():
            if ranges(METHODS[method]):
                learns, seen = setting.for_method(METHODS[method]), without_tests(data)
                found = space(method, None, plan.optimizer)
                search = Search(name, method, own, found, seen, learns, plan, budget)
                plans.append(Tuning(folder / domain / name.replace(" ", "-"), domain, search))
    return plans


def without_tests(data: DomainData) -> DomainData:
    """Give what a search may see, ready to be sent to another process."""
    return data.tracked(quietly).without_tests()


def tune(
    plans: Sequence[Tuning], *, jobs: int, terminal: Terminal, executor: str = ""
) -> dict[str, dict[str, Tuned]]:
    """Run the searches; give the values chosen and all trials, by domain and method.

    Where no trial came to an end, since all diverged, the first one's are taken, which are the
    method's own settings: what it comes to with them is then seen beside the others.

    Raises:
        ValueError: If one failed; what the others found is kept in their folders.
    """
    found: dict[str, dict[str, Tuned]] = {}
    parts = spread(_tune, plans, jobs=jobs, terminal=terminal, label="searches", executor=executor)
    for number, trials in parts:
        if isinstance(trials, Failure):
            raise ValueError(f"{trials.cell} failed: {trials.reason}")
        one = plans[number]
        if any(trial.state == "complete" for trial in trials):
            chosen = Tuned(best_of(trials).values, trials)
        else:
            name = f"{one.search.name} on {one.domain}"
            terminal.say(f"no trial of {name} came to an end: it is run as it comes")
            chosen = Tuned(trials[0].values, trials)
        found.setdefault(one.domain, {})[one.search.name] = chosen
    return found


def _tune(one: Tuning, terminal: Terminal) -> list[Trial]:
    return search(one.search, folder=one.folder, terminal=terminal)


def summary_of(runs: Sequence[RunResults], subjects: Subjects | None = None) -> dict[str, Any]:
    """Count runs: a summary a method, and over several training domains who beats whom.

    Over several domains only those and the seeds count that every method has a run of. With
    ``subjects``, what the rows of test sets show, intervals count in the choice of test images.
    """
    if len({run.domain for run in runs}) == 1:
        return {"summary": summarize(runs)}
    runs = comparable(runs)
    domains = list(dict.fromkeys(run.domain for run in runs))
    names = list(dict.fromkeys(run.method for run in runs))
    summary = across(runs, subjects)
    return {
        "summary": summary,
        "by_domain": {d: summarize([r for r in runs if r.domain == d]) for d in domains},
        "versus": [
            versus(runs, one, other, subjects) for one in names for other in names if one != other
        ],
        "tests": by_test(runs, best_method(summary, runs[0].measure), subjects),
    }


def robustness(runs: Sequence[RunResults]) -> dict[str, Any]:
    """Count runs at several rates: the score by rate for each method, and how wide its plateau is.

    ``width`` is in decades of the rate, within 3 points of the best, at home and elsewhere; a rate
    at which any run diverged is left out.
    """
    found: dict[str, Any] = {}
    measure = runs[0].measure
    places: list[Place] = ["id"] if runs[0].home is not None else []
    places += ["ood"] if runs[0].elsewhere else []
    for name in dict.fromkeys(run.base for run in runs if "lr" in run.options):
        curves = {measure.key(place): _curve(runs, name, place) for place in places}
        widths = {key: _plateau(points, measure) for key, points in curves.items()}
        found[name] = {"curves": curves, "width": widths}
    return found


def _curve(runs: Sequence[RunResults], name: str, place: Place) -> list[tuple[float, float]]:
    """Give the mean score of a method at each rate at which no run diverged."""
    at: dict[float, list[float]] = {}
    for run in runs:
        if run.base == name:
            at.setdefault(run.options["lr"], []).append(reached(run, place))
    whole = max(map(len, at.values()))
    return [(rate, mean(at[rate])) for rate in sorted(at) if len(at[rate]) == whole]


def _plateau(points: Sequence[tuple[float, float]], measure: Measure) -> float:
    merits = [(rate, measure.merit(value)) for rate, value in points]
    best = max(merit for _, merit in merits)
    return width(merits, within=measure.margin(WITHIN, best))
