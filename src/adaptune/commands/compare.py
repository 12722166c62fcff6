"""`adaptune compare`: several methods, seeds and domains, tuned alike; one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.advice import give_advice
from adaptune.commands.choices import MOST_JOBS, MOST_SEEDS, MOST_TRIALS
from adaptune.commands.config import config_of, config_text, yaml_text
from adaptune.commands.executor import add_executor, found_by_workers
from adaptune.commands.in_turn import OWN as OWN_DOMAIN
from adaptune.commands.in_turn import Source, check_domains, open_sources
from adaptune.commands.options import (
    add_task_choice,
    make_folder,
    print_json,
    record_of,
    required,
    setting_of,
    training_parser,
)
from adaptune.commands.settings import settings_by_method
from adaptune.data.words import absolute_path
from adaptune.engine.method import teachers_of
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.page import write_comparison_report
from adaptune.report.terminal import Terminal
from adaptune.results.run import RunResults
from adaptune.results.sequence import sequence_table, sequences
from adaptune.results.summary import best_method, summarize
from adaptune.results.verdict import verdicts
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.studies.comparison import RATES, Tuned, plan_tuning, robustness, summary_of, tune
from adaptune.studies.grid import Cell, Failure, run_cells
from adaptune.studies.oracle import oracle_gaps, with_agreement
from adaptune.studies.sequence import run_chains

OWN = (
    *("out", "methods", "seeds", "set", "domains", "sequence", "tune", "untuned", "rates"),
    *("jobs", "executor", "advise"),
)
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
        help="settings of single methods or of their plans, such as ft.lr=0.01 or "
        "lp-ft.interpolate=0.5",
    )
    parser.add_argument(
        "--domains",
        type=str,
        default=OWN_DOMAIN,
        metavar="{own,leave-one-out,NAMES}",
        help="train on the data given, or on each domain in turn and test on all others; names, "
        "with commas, are those to train on",
    )
    parser.add_argument(
        "--sequence",
        type=str,
        default="",
        metavar="NAMES",
        help="train on these domains one after the other, with commas, each run going on from the "
        "last one's network, and test on all of them; tells what is forgotten",
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
    add_executor(parser)
    parser.add_argument(
        "--advise",
        action="store_true",
        help="run nothing: name the methods worth comparing on this data, and the commands",
    )
    add_task_choice(parser, words)
    given = parser.parse_args(list(words))
    if not given.get("from"):
        required(parser, given, "data")
    if given.advise:
        with Terminal() as terminal:
            told = give_advice(words, given, terminal)
        if given.json:
            print_json(told)
        return
    required(parser, given, "out")
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
    given = found_by_workers(given) if given.executor else given
    names = [name.strip() for name in given.methods.split(",")]
    options, plans = settings_by_method(names, given.set, given.optimizer)
    folder = make_folder(given.out)
    with Terminal() as terminal:
        sources = open_sources(given, terminal.track)
        domains = {name: source.data for name, source in sources.items()}
        for note in dict.fromkeys(note for data in domains.values() for note in data.notes):
            terminal.say(f"note: {note}")
        tuned: dict[str, dict[str, Tuned]] = {}
        if given.tune:
            plan = record_of(Plan, given)
            variants = {
                name: (name, own, replace(plan, **plans[name])) for name, own in options.items()
            }
            trials = plan_tuning(
                variants, domains, setting_of(given), budget=given.tune, folder=folder / "tuning"
            )
            tuned = tune(trials, jobs=given.jobs, terminal=terminal, executor=given.executor)
            for domain, one in tuned.items():
                for name, chosen in one.items():
                    terminal.say(f"{domain}, {name}: {_listed(chosen.values)}")
        cells = list(_cells(given, sources, options, plans, tuned))
        how = {"jobs": given.jobs, "terminal": terminal, "executor": given.executor}
        found, failures = run_chains(cells, **how) if given.sequence else run_cells(cells, **how)
        if given.rates:  # that some rates are too high is what the sweep is to find out
            failures = [one for one in failures if not one.reason.startswith("FloatingPointError")]
        if not found:
            why = failures[0].reason if failures else "every rate diverged"
            raise ValueError(f"every run failed, the first with {why}")
        ended = [one for one in found if not given.sequence or one.domain == list(sources)[-1]]
        results: dict[str, Any] = {
            "rows": [one.row(folder) for one in found],
            **(
                {"sequence": sequences(found, list(sources)), "summary": summarize(ended)}
                if given.sequence
                else summary_of(found, {name: data.subjects() for name, data in domains.items()})
            ),
            "machine": describe_machine(),
            "score": found[0].measure,
        }
        if found[0].label_free:
            results["selection"] = oracle_gaps(with_agreement(found))
        if tuned:
            results["tuned"] = tuned
        if given.rates:
            results["rates"] = robustness(found)
        write_text(
            folder / "config.yaml",
            config_text(given, leave_out=("out", "jobs", "executor", "advise")),
        )
        write_text(folder / "results.json", json.dumps(to_json(results), indent=1) + "\n")
        page = write_comparison_report(folder)
        if ended:
            terminal.results(ended, results["summary"])
        if given.sequence:
            terminal.table(*sequence_table(results["sequence"], found[0].measure))
        for told in _verdicts(results, found) if not given.rates else ():
            terminal.say(told)
        terminal.say(f"report  {page}")
    return results, failures


def _verdicts(results: Mapping[str, Any], runs: Sequence[RunResults]) -> Iterable[str]:
    """Say what the comparison decides over training domains, where there are several."""
    measure, found = runs[0].measure, results.get("versus", [])
    domains = len(results.get("by_domain", {}))
    return verdicts(found, best_method(results["summary"], measure), domains, measure).values()


def _check(given: Namespace) -> None:
    check_domains(given)
    if given.tune and not given.get("data"):
        raise ValueError("--tune judges by ID validation, which needs labelled images: give DATA")
    names = [name.strip() for name in given.methods.split(",")]
    learning = [name for name in names if name in METHODS and teachers_of(METHODS[name]) != "none"]
    if given.teacher and not learning:
        raise ValueError(
            f"--teacher is for methods that learn from other networks, and none of "
            f"{', '.join(names)} does: leave it out"
        )
    if given.rates and given.tune:
        raise ValueError("--rates tries every rate and --tune looks for one: give one of them")


def _cells(
    given: Namespace,
    sources: Mapping[str, Source],
    options: Mapping[str, Mapping[str, Any]],
    plans: Mapping[str, Mapping[str, Any]],
    tuned: Mapping[str, Mapping[str, Tuned]],
) -> Iterator[Cell]:
    """Lay out the runs: domain by domain, seed by seed, method by method."""
    setting, plan = setting_of(given), record_of(Plan, given)
    runs, common = Path(given.out) / "runs", config_of(given, leave_out=OWN)
    begun: dict[tuple[str, int], str] = {}
    teachers = {"teacher": common.pop("teacher", [])}
    for domain, source in sources.items():
        place = runs / domain if len(sources) > 1 else runs
        chosen = tuned.get(domain, {})
        for seed in range(given.seeds):
            for name, method, own in _variants(given, options, chosen):
                named = {"method": method, "seed": seed, **own, **plans[method]}
                learns = setting.for_method(METHODS[method])
                named |= teachers if learns.teachers else {}
                folder = place / f"{name}-{seed}".replace(" ", "-")
                if given.sequence and (start := begun.get((name, seed))):
                    learns, named = replace(learns, start=start), named | {"from": start}
                begun[name, seed] = absolute_path(folder)
                yield Cell(
                    folder,
                    name,
                    domain,
                    method,
                    own,
                    source.data.seeded(seed),
                    learns,
                    replace(plan, **plans[method], seed=seed),
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


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
