"""Run a protocol and write its results: ``python -m benchmarks.run NAME [--data DIR]``.

A protocol is a file in ``benchmarks/protocols``; what comes of it goes to ``benchmarks/results``.
Finished runs below ``--work`` are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from adaptune.commands.config import yaml_text
from adaptune.commands.options import method_options
from adaptune.data.domains import DomainData, Loading, RowSource
from adaptune.data.file_rows import FileRows
from adaptune.engine.plan import Plan
from adaptune.report.terminal import Terminal
from adaptune.results.row import RunRow
from adaptune.results.run import RunResults
from adaptune.results.score import Measure, number
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.studies.comparison import RATES, Tuned, plan_tuning, robustness, summary_of, tune
from adaptune.studies.grid import Cell, run_cells
from adaptune.studies.oracle import oracle_gaps, with_agreement

ROOT = Path(__file__).parent
Options = Mapping[str, Any]
OWN = ("method", "tuned", "scan", "plan", "setting")
"""What a variant may say beside its method's options: ``plan`` and ``setting`` change those of the
protocol, ``tuned`` is false or the name of a variant whose tuning it takes."""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("protocol", help="a name in benchmarks/protocols, or a TOML file")
    parser.add_argument("--data", type=Path, help="where you keep the data that it needs")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--seeds", type=int, help="fewer or more seeds than the protocol says")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="where results go")
    given = parser.parse_args(words)
    file = ROOT / "protocols" / f"{given.protocol}.toml"
    file = file if file.is_file() else Path(given.protocol)
    protocol = tomllib.loads(file.read_text())
    if given.seeds:
        protocol["seeds"] = list(range(given.seeds))
    with Terminal() as terminal:
        results = run(protocol, given.data, given.work / file.stem, given.jobs, terminal)
    given.out.mkdir(parents=True, exist_ok=True)
    out = given.out / f"{file.stem}.json"
    write_text(out, json.dumps(to_json(results), indent=1) + "\n")
    print(out)


@dataclass(frozen=True)
class Bench:
    """A protocol with its data: what all cells share."""

    protocol: Mapping[str, Any]
    domains: Mapping[str, DomainData]
    work: Path
    weights: Callable[[str], Path | None] = lambda _: None

    @property
    def setting(self) -> Setup:
        return self.set_up({})

    def set_up(self, more: Mapping[str, Any]) -> Setup:
        """Give the protocol's setting, with what a variant says; weights may be the source's."""
        said = {**self.protocol.get("setting", {}), **more}
        file = self.weights(said.get("weights") or "")
        return Setup(**said | {"weights": str(file) if file else said.get("weights") or None})

    @property
    def plan(self) -> Plan:
        return Plan(**self.protocol.get("plan", {}))

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        return {name: dict(one) for name, one in self.protocol["variants"].items()}

    def planned(self, name: str) -> Plan:
        """Give the plan of a variant: the protocol's, with what the variant says of it."""
        return replace(self.plan, **self.variants[name].get("plan", {}))

    def tuned_as(self, name: str) -> str:
        """Say whose tuning a variant takes: its own, that of another which it names, or none's."""
        said = self.variants[name].get("tuned", True)
        return name if said is True else str(said or "")

    def cell(self, domain: str, name: str, label: str, values: Options, seed: int) -> Cell:
        """Lay out one run of the variant ``name``, called ``label``."""
        one, images = self.variants[name], self.domains[domain].seeded(seed)
        if "scan" in one:
            train = some(images.sets["train"], one["scan"], seed)
            images = replace(images, sets={**images.sets, "train": train})
        plan = replace(self.planned(name), seed=seed)
        setting = self.set_up(one.get("setting", {}))
        spec = {"method": one["method"], **values, "scan": one.get("scan")}
        known = setting.settings() | plan.settings() | {"batch_size": images.loading.batch_size}
        return Cell(
            self.work / domain / f"{label}-{seed}".replace(" ", "-"),
            label,
            domain,
            one["method"],
            values,
            images,
            setting,
            plan,
            yaml_text(spec | known),
        )


def opened(protocol: Mapping[str, Any], data: Path | None, work: Path) -> Bench:
    """Find what a protocol needs; its data are kept beside its work folder."""
    source = import_module(f"benchmarks.sources.{protocol['source']}")
    openers = source.open_source(data, work.parent / "data", **protocol.get("source_options", {}))
    loading = Loading(**protocol.get("loading", {}))
    names = protocol.get("domains", list(openers))
    weights = partial(getattr(source, "weights", lambda *_: None), work.parent / "data")
    return Bench(protocol, {name: openers[name](loading) for name in names}, work, weights)


def run(
    protocol: Mapping[str, Any], data: Path | None, work: Path, jobs: int, terminal: Terminal
) -> dict[str, Any]:
    """Tune where the protocol says so, run every cell, count."""
    bench = opened(protocol, data, work)
    tuned = _tuned(bench, jobs, terminal) if "tune" in protocol else {}
    grid = _searched(bench, jobs, terminal) if "grids" in protocol else {}
    cells = []
    for domain, seed in itertools.product(bench.domains, protocol["seeds"]):
        own = tuned.get(domain, {})
        for name, one in bench.variants.items():
            values = _options(one, bench.planned(name))
            values |= own[bench.tuned_as(name)].values if bench.tuned_as(name) in own else {}
            values |= grid.get(domain, {}).get(name, {})
            rates = RATES if protocol.get("rates") else ()
            cells += [
                bench.cell(domain, name, f"{name} {rate:.2g}", {**values, "lr": rate}, seed)
                for rate in rates
            ]
            if not rates:
                cells.append(bench.cell(domain, name, name, values, seed))
    found, failures = run_cells(cells, jobs=jobs, terminal=terminal)
    found = with_agreement(found)
    results: dict[str, Any] = {
        "about": protocol["about"],
        "protocol": dict(protocol),
        "rows": [_row(one, work) for one in found],
        "failures": [vars(failure) for failure in failures],
        **summary_of(found),
        "machine": describe_machine(),
        "score": found[0].measure if found else Measure(),
    }
    if tuned:
        results["tuned"] = tuned
    if grid:
        results["grid"] = grid
    if protocol.get("rates"):
        results["rates"] = {
            domain: robustness([one for one in found if one.domain == domain])
            for domain in bench.domains
        }
    if any(one.label_free for one in found):
        results["selection"] = oracle_gaps(found)
    return results


def _tuned(bench: Bench, jobs: int, terminal: Terminal) -> dict[str, dict[str, Tuned]]:
    """Tune each variant with the same budget on each domain, unless it says otherwise."""
    tuned = {
        name: (one["method"], _options(one, bench.planned(name)), bench.planned(name))
        for name, one in bench.variants.items()
        if bench.tuned_as(name) == name
    }
    plans = plan_tuning(
        tuned,
        bench.domains,
        bench.setting,
        budget=bench.protocol["tune"],
        folder=bench.work / "tuning",
    )
    return tune(plans, jobs=jobs, terminal=terminal)


def _searched(bench: Bench, jobs: int, terminal: Terminal) -> dict[str, dict[str, Any]]:
    """Run every combination of each grid with the first seed; choose on ID validation."""
    seed = bench.protocol["seeds"][0]
    cells = {}
    for domain, (name, grid) in itertools.product(bench.domains, bench.protocol["grids"].items()):
        for point in itertools.product(*grid.values()):
            values = dict(zip(grid, point, strict=True))
            said = " ".join(f"{value:.2g}" for value in point)
            options = _options(bench.variants[name], bench.planned(name)) | values
            cell = bench.cell(domain, name, f"{name} {said}", options, seed)
            cells[domain, cell.name] = (name, values, cell)
    found, _ = run_cells([cell for *_, cell in cells.values()], jobs=jobs, terminal=terminal)
    chosen: dict[str, dict[str, Any]] = {}
    for one in sorted(found, key=_merit, reverse=True):  # of equals the first counts
        name, values, _ = cells[one.domain, one.method]
        chosen.setdefault(one.domain, {}).setdefault(name, values)
    return chosen


def _merit(one: RunResults) -> float:
    """Give what a run reached on ID validation, turned so that more is better."""
    return one.measure.merit(number(one.val))


def _options(variant: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    own = {key: value for key, value in variant.items() if key not in OWN}
    said = [f"{key}={value}" for key, value in own.items()]
    return method_options(variant["method"], said, plan.optimizer)


def some(rows: RowSource, number: int, seed: int) -> FileRows:
    """Give a random part of the rows of image files."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(rows), generator=random)[:number].tolist()
    assert isinstance(rows, FileRows)
    return rows.chosen(chosen)


def _row(one: RunResults, work: Path) -> RunRow:
    """Give a run's row, with what was chosen and what scores said of it."""
    return replace(
        one.row(work),
        base=one.base,
        options=one.options,
        val=one.val,
        best_epoch=one.best_epoch,
        label_free=one.label_free,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
