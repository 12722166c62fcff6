"""The demo, over three seeds: ``python -m benchmarks.demo``.

Finished runs below ``--work`` are not run again, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from adaptune.commands import demo
from adaptune.runtime.files import to_json, write_text
from benchmarks.run import ROOT


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--epochs", type=int, help="by default the demo's own")
    parser.add_argument("--jobs", type=int, help="runs at a time; by default the demo's own")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="where results go")
    given = parser.parse_args(words)
    folder = given.work / "demo"
    own = {"epochs": given.epochs, "jobs": given.jobs}
    more = [f"--{name}={value}" for name, value in own.items() if value is not None]
    demo.run([f"--out={folder}", f"--seeds={given.seeds}", *more])
    results = json.loads((folder / "comparison" / "results.json").read_text())
    file = given.out / "demo.json"
    write_text(file, json.dumps(to_json({"about": __doc__, **results}), indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main(sys.argv[1:])
