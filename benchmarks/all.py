"""Make every table of the docs again: ``python -m benchmarks.all [--data DIR] [--only NAME ...]``.

Runs the measurements of `benchmarks.registry` one after the other, then ``benchmarks.table`` and
``benchmarks.pages``. What has ended is not made again while its mark stands below ``--work``, and a
protocol goes on within itself, so an interrupted command goes on when it is given again; one that
fails stops no other. How long those took that ran in one go is kept in ``results/durations.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from benchmarks.registry import MEASUREMENTS, Measurement

DURATIONS = Path(__file__).parent / "results" / "durations.json"
Run = Callable[[Sequence[str]], int]


def main(words: list[str]) -> int:
    names = [one.name for one in MEASUREMENTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of folders, one a further vendor")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, where there are many")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="by default all")
    parser.add_argument("--again", action="store_true", help="make also what was made already")
    given = parser.parse_args(words)
    options = {
        "--data": None if given.data is None else given.data.absolute(),
        "--work": given.work,
        "--jobs": given.jobs,
    }
    chosen = [one for one in MEASUREMENTS if one.name in given.only]
    failed = make(chosen, options, given.work / "all", again=given.again)
    for module in ("table", "pages"):
        failed += [module] * bool(run([sys.executable, "-m", f"benchmarks.{module}"]))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(words: Sequence[str]) -> int:
    """Run a command in this terminal; give its exit code."""
    return subprocess.run(words, check=False).returncode


def make(
    chosen: Sequence[Measurement],
    options: dict[str, object],
    marks: Path,
    *,
    again: bool = False,
    run: Run = run,
) -> list[str]:
    """Make measurements that have no mark; give the names of those that failed."""
    failed = []
    marks.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(chosen, start=1):
        mark = marks / one.name
        done = mark.is_file() and mark.read_text() == "done"
        print(
            f"{number} of {len(chosen)}: {one.name}{' is done' * (done and not again)}", flush=True
        )
        if done and not again:
            continue
        fresh = not mark.exists() and not (marks.parent / one.name).exists()
        mark.write_text("begun")
        began = time.perf_counter()
        if run(words_of(one, options)):
            failed.append(one.name)
            continue
        mark.write_text("done")
        if fresh:
            keep(one.name, time.perf_counter() - began)
    return failed


def words_of(one: Measurement, options: dict[str, object]) -> list[str]:
    """Give the command of a measurement, with the options that it takes and that are given."""
    given = [(key, options[key]) for key in one.takes if options.get(key) is not None]
    more = [str(word) for pair in given for word in pair]
    return [sys.executable, "-m", f"benchmarks.{one.module}", *one.words, *more]


def keep(name: str, seconds: float) -> None:
    """Keep how long a measurement took, beside those of the others."""
    known = json.loads(DURATIONS.read_text()) if DURATIONS.is_file() else {}
    told = {"seconds": round(seconds), "cores": describe_machine()["cores"]}
    write_text(DURATIONS, json.dumps(to_json(known | {name: told}), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
