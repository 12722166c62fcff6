"""`adaptune compare`: several methods, several seeds, one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.options import (
    config_text,
    loading,
    method_options,
    named_folders,
    print_json,
    record,
    required,
    training_parser,
    yaml_text,
)
from adaptune.data.domains import open_domains
from adaptune.data.listing import Shares
from adaptune.descent import Plan
from adaptune.experiment import Features, Setting, experiment
from adaptune.methods import METHODS
from adaptune.report.page import write_comparison_report
from adaptune.run import Run, machine, plain, replace_text
from adaptune.summary import row_of, summarize
from adaptune.terminal import Terminal


def run(words: Sequence[str]) -> None:
    """Train each method with each seed on the same data; compare; report."""
    parser = training_parser(
        "compare",
        "Compare methods on the same data over several seeds. Finished runs are not run again.",
        skip=frozenset({"seed"}),
    )
    parser.add_argument("--methods", type=str, default="ft,lp-ft,daft", help="names, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, counted from 0")
    parser.add_argument(
        "--set",
        nargs="+",
        type=str,
        default=[],
        metavar="METHOD.OPTION=VALUE",
        help="settings of single methods, such as ft.lr=0.01",
    )
    given = parser.parse_args(list(words))
    required(parser, given, "data", "out")
    results = compare(given)
    if given.json:
        print_json(results)


def compare(given: Namespace) -> dict[str, Any]:
    """Do what the arguments ask for; give what ``results.json`` holds."""
    if given.seeds < 1:
        raise ValueError(f"a comparison needs at least one seed, and --seeds is {given.seeds}")
    options = _options([name.strip() for name in given.methods.split(",")], given.set)
    folder = Path(given.out)
    ood, setting, plan = named_folders(given.ood), record(Setting, given), record(Plan, given)
    before: Features = {}
    found: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    common = config_text(given, leave_out=("out", "methods", "seeds", "set"))
    replace_text(folder / "config.yaml", config_text(given, leave_out=("out",)))
    with Terminal() as terminal:
        for seed in range(given.seeds):
            if setting.weights == "none":
                before = {}  # random weights are others with every seed
            data = open_domains(
                given.data,
                ood,
                shares=record(Shares, given),
                loading=loading(given, seed=seed, track=terminal.track),
            )
            for note in data.notes if seed == 0 else ():
                terminal.say(f"note: {note}")
            for name, own in options.items():
                terminal.say(f"{name}, seed {seed}")
                out = Run(folder / "runs" / f"{name}-{seed}")
                config = common + yaml_text({"method": name, "seed": seed, **own})
                done = _finished(out, config)
                if done is None:
                    replace_text(out.config, config)
                    done = experiment(
                        out,
                        METHODS[name],
                        own,
                        data,
                        setting,
                        replace(plan, seed=seed),
                        name=name,
                        terminal=terminal,
                        before=before,
                    )
                found.append(plain(done))
        results = {
            "rows": [row_of(one, folder) for one in found],
            "summary": summarize(found),
            "machine": machine(),
        }
        replace_text(folder / "results.json", json.dumps(plain(results), indent=1) + "\n")
        page = write_comparison_report(folder)
        terminal.results(found)
        terminal.say(f"report  {page}")
    return results


def _options(names: Sequence[str], settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read each method's settings."""
    for name in names:
        if name not in METHODS:
            raise ValueError(f"no method {name!r}: there are {', '.join(sorted(METHODS))}")
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


def _finished(out: Run, config: str) -> dict[str, Any] | None:
    """Give the results of a run that ended with these very settings; clear away any others."""
    same = out.config.is_file() and out.config.read_text() == config
    if same and out.results.is_file():
        done: dict[str, Any] = json.loads(out.results.read_text())
        return done | {"config": str(out.config)}  # the folder may have moved since
    # Were they left, an interrupted run of other settings would look finished.
    out.results.unlink(missing_ok=True)
    return None
