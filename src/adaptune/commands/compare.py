"""`adaptune compare`: several methods, seeds and domains, tuned alike; one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.choices import MOST_JOBS, MOST_SEEDS, MOST_TRIALS, STREAMING, TRAINING
from adaptune.commands.config import config_of, config_text, yaml_text
from adaptune.commands.open_data import loading_of, open_data
from adaptune.commands.options import (
    add_task_choice,
    make_folder,
    method_options,
    print_json,
    record_of,
    required,
    setting_of,
    training_parser,
)
from adaptune.data.domains import DomainData
from adaptune.data.listing import Listing, Shares
from adaptune.data.rotation import domain_folders, leave_one_out, list_domains_below
from adaptune.data.sources import find_domains
from adaptune.data.words import named_folders
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.page import write_comparison_report
from adaptune.report.terminal import Terminal
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.studies.comparison import RATES, Tuned, plan_tuning, robustness, summary_of, tune
from adaptune.studies.grid import Cell, Failure, run_cells
from adaptune.studies.oracle import oracle_gaps
from adaptune.tasks import TASKS

OWN = ("out", "methods", "seeds", "set", "domains", "tune", "untuned", "rates", "jobs")
"""Options that a single run has no use for."""


def run(words: Sequence[str]) -> None:
    """Train each method with each seed on the same data; compare; report."""
    parser = training_parser(
        "compare",
        "Compare methods on the same data over several seeds. Finished runs are not run again.",
        skip=frozenset({"seed", "devices"}),
    )
    parser.add_argument("--methods", type=str, default="ft,lp-ft,daft", help="names, with commas")
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        between=(1, MOST_SEEDS),
        help="how many seeds, counted from 0",
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        type=str,
        default=[],
        metavar="METHOD.OPTION=VALUE",
        help="settings of single methods, such as ft.lr=0.01",
    )
    parser.add_argument(
        "--domains",
        choices=("own", "leave-one-out"),
        default="own",
        help="train on the data given, or on each domain in turn and test on all others",
    )
    parser.add_argument(
        "--tune",
        type=int,
        default=0,
        between=(0, MOST_TRIALS),
        help="trials that each method is tuned for, on each domain",
    )
    parser.add_argument(
        "--untuned",
        type=str,
        default="",
        help="methods to run at their own settings beside the tuned ones, with commas",
    )
    parser.add_argument(
        "--rates", action="store_true", help="sweep each method's body rate over five decades"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        between=(1, MOST_JOBS),
        help="runs at a time, each in a process",
    )
    add_task_choice(parser, words)
    given = parser.parse_args(list(words))
    required(parser, given, "out")
    if not given.get("from"):
        required(parser, given, "data")
    results, failures = compare(given)
    if given.json:
        print_json(results)
    if failures:
        raise ValueError(
            f"{len(failures)} runs failed, the first of them {failures[0].cell}: "
            f"{failures[0].reason}; the others stand in {given.out}"
        )


def compare(given: Namespace) -> tuple[dict[str, Any], list[Failure]]:
    """Do what the arguments ask for; give what ``results.json`` holds, and what failed."""
    _check(given)
    names = [name.strip() for name in given.methods.split(",")]
    options = _options(names, given.set)
    folder = make_folder(given.out)
    with Terminal() as terminal:
        sources = _sources(given, terminal)
        domains = {name: source.data for name, source in sources.items()}
        for note in dict.fromkeys(note for data in domains.values() for note in data.notes):
            terminal.say(f"note: {note}")
        tuned: dict[str, dict[str, Tuned]] = {}
        if given.tune:
            setting, plan = setting_of(given), record_of(Plan, given)
            variants = {name: (name, own, plan) for name, own in options.items()}
            plans = plan_tuning(
                variants, domains, setting, budget=given.tune, folder=folder / "tuning"
            )
            tuned = tune(plans, jobs=given.jobs, terminal=terminal)
            for domain, one in tuned.items():
                for name, chosen in one.items():
                    terminal.say(f"{domain}, {name}: {_listed(chosen.values)}")
        cells = list(_cells(given, sources, options, tuned))
        found, failures = run_cells(cells, jobs=given.jobs, terminal=terminal)
        if given.rates:  # that some rates are too high is what the sweep is to find out
            failures = [one for one in failures if not one.reason.startswith("FloatingPointError")]
        if not found:
            why = failures[0].reason if failures else "every rate diverged"
            raise ValueError(f"every run failed, the first with {why}")
        results: dict[str, Any] = {
            "rows": [one.row(folder) for one in found],
            **summary_of(found),
            "machine": describe_machine(),
            "score": found[0].measure,
        }
        if found[0].label_free:
            results["selection"] = oracle_gaps(found)
        if tuned:
            results["tuned"] = tuned
        if given.rates:
            results["rates"] = robustness(found)
        write_text(folder / "config.yaml", config_text(given, leave_out=("out", "jobs")))
        write_text(folder / "results.json", json.dumps(to_json(results), indent=1) + "\n")
        page = write_comparison_report(folder)
        terminal.results(found, results["summary"])
        terminal.say(f"report  {page}")
    return results, failures


def _check(given: Namespace) -> None:
    if given.domains != "own" and (given.source or given.target or given.get("from")):
        raise ValueError(
            "--domains leave-one-out chooses domains itself: leave out --source, --target and "
            "--from"
        )
    if given.domains != "own" and TASKS[given.task].labels != "class":
        raise ValueError(
            f"--domains leave-one-out is for folders of classes, and this is {given.task}: train "
            "on each domain by a comparison of its own"
        )
    if given.domains != "own" and given.open_set:
        raise ValueError(
            "--domains leave-one-out tests on the classes that all domains have, so no image is "
            "unknown: leave out --open-set"
        )
    if given.tune and not given.get("data"):
        raise ValueError("--tune judges by ID validation, which needs labelled images: give DATA")
    if given.rates and given.tune:
        raise ValueError("--rates tries every rate and --tune looks for one: give one of them")


@dataclass(frozen=True)
class Source:
    """The data of one training domain, and what of a config file names it."""

    data: DomainData
    named: Mapping[str, Any]


def _sources(given: Namespace, terminal: Terminal) -> dict[str, Source]:
    """Open the data: the domain given, or each in turn."""
    if given.domains == "own":
        data = open_data(given, seed=0, track=terminal.track)
        return {given.domain or Path(given.get("data") or given["from"]).stem: Source(data, {})}
    listings, named = _rotation(given)
    opened_ = leave_one_out(
        listings,
        shares=record_of(Shares, given),
        loading=loading_of(given, seed=0, track=terminal.track),
    )
    return {
        name: Source(data, named[name] | {"classes": list(data.classes)})
        for name, data in opened_.items()
    }


def _rotation(given: Namespace) -> tuple[list[Listing], dict[str, dict[str, Any]]]:
    """List all domains; say for each what a run that trains on it must be given."""
    data, ood = Path(given.data), named_folders(given.ood)
    if data.is_dir() and not ood:
        listings = list_domains_below(data)
        places = domain_folders(data)
    else:
        found = find_domains(data, ood)
        listings = [found.own, *found.others]
        if len(listings) > 1 and not ood:
            return listings, {one.name: {"domain": one.name} for one in listings}
        places = {listings[0].name: data, **ood}
        if len(listings) > len(places):
            raise ValueError(
                "each domain in turn takes one manifest that holds them all, or folders and "
                "manifests of one domain each: got one of several beside --ood, or below it"
            )
    paths = {name: path.absolute() for name, path in places.items()}
    return listings, {
        name: {"data": path, "ood": [f"{n}={p}" for n, p in paths.items() if n != name]}
        for name, path in paths.items()
    }


def _cells(
    given: Namespace,
    sources: Mapping[str, Source],
    options: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, Mapping[str, Tuned]],
) -> Iterator[Cell]:
    """Lay out the runs: domain by domain, seed by seed, method by method."""
    setting, plan = setting_of(given), record_of(Plan, given)
    runs, common = Path(given.out) / "runs", config_of(given, leave_out=OWN)
    for domain, source in sources.items():
        place = runs / domain if len(sources) > 1 else runs
        chosen = tuned.get(domain, {})
        for seed in range(given.seeds):
            for name, method, own in _variants(given, options, chosen):
                named = {"method": method, "seed": seed, **own}
                yield Cell(
                    place / f"{name}-{seed}".replace(" ", "-"),
                    name,
                    domain,
                    method,
                    own,
                    source.data.seeded(seed),
                    setting,
                    replace(plan, seed=seed),
                    yaml_text({**common, **source.named, **named}),
                )


def _variants(
    given: Namespace,
    options: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, Tuned],
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Give name, method and options of what is run: tuned or not, at one rate or at many."""
    untuned = [name.strip() for name in given.untuned.split(",") if name.strip()]
    for name, own in options.items():
        if given.rates and "lr" in own:
            for rate in RATES:
                yield f"{name} {rate:.2g}", name, {**own, "lr": rate}
            continue
        yield name, name, {**own, **(tuned[name].values if name in tuned else {})}
        if name in untuned:
            yield f"{name} (default)", name, own


def _options(names: Sequence[str], settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read each method's settings."""
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no method {name!r}: there are {', '.join(TRAINING)}")
        if name in STREAMING:
            raise ValueError(f"{name} adapts to a stream of images: run adaptune stream RUN DIR")
    own: dict[str, list[str]] = {name: [] for name in names}
    for setting in settings:
        name, dot, rest = setting.partition(".")
        if not dot or "=" not in rest or name not in own:
            raise ValueError(
                f"expected METHOD.OPTION=VALUE with one of {', '.join(names)}, such as "
                f"ft.lr=0.01, and got {setting!r}"
            )
        own[name].append(rest)
    return {name: method_options(name, settings) for name, settings in own.items()}


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
