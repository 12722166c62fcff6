"""A comparison on one worker of dask and on two: ``python -m benchmarks.workers``.

`adaptune compare` of four runs on the demo's data, by a scheduler and workers of one thread on this
machine, which are running before the clock starts. The numbers of workers take turns. What the runs
came to is held against what they come to without an executor: only times may differ.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from adaptune.data.demo import build_demo
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from benchmarks.layout import Results, markdown

RESULTS = Path(__file__).parent / "results" / "workers.json"
COUNTS = (1, 2)
TIMED = ("seconds", "config")
"""Fields that measure time, or name the folder."""

THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="comparisons with each number")
    parser.add_argument("--epochs", type=int, default=4, help="passes of a run")
    parser.add_argument("--classes", type=int, default=8, help="classes of the demo to take")
    given = parser.parse_args(words)
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    with TemporaryDirectory() as folder:
        place = Path(folder)
        domains = build_demo(place / "data")
        classes = sorted(one.name for one in domains["twemoji"].iterdir())[: given.classes]
        asked = [str(domains["twemoji"]), f"--ood=openmoji={domains['openmoji']}", "--seeds=2"]
        asked += ["--methods=ft,lp-ft", "--image-size=64", f"--epochs={given.epochs}"]
        asked += ["--classes", *classes]
        _, alone = compared(place / "alone", asked)
        equal = True
        for turn in range(given.rounds):
            for count in COUNTS:
                with workers(count) as address:
                    out = place / f"{count}-{turn}"
                    took, found = compared(out, [*asked, "--executor", f"dask://{address}"])
                seconds[count].append(took)
                equal = equal and found == alone
                print(f"{count} workers: {took:.1f} s, equal: {equal}", flush=True)
    rows = [{"workers": count, "seconds": median(seconds[count])} for count in COUNTS]
    ratios = [two / one for one, two in zip(*seconds.values(), strict=True)]
    found = {"rows": rows, "ratios": ratios, "equal": equal, "runs": len(alone)}
    found |= {"about": __doc__, "machine": describe_machine()}
    write_text(RESULTS, json.dumps(to_json(found), indent=1) + "\n")


def compared(out: Path, words: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Compare; give the seconds it took and each run's results but for its times."""
    start = time.perf_counter()
    run = [sys.executable, "-m", "adaptune", "compare", *words, f"--out={out}"]
    subprocess.run(run, check=True, env=os.environ | THREAD, capture_output=True)
    took = time.perf_counter() - start
    told = {}
    for file in sorted((out / "runs").glob("*/results.json")):
        results = json.loads(file.read_text())
        told[file.parent.name] = {key: one for key, one in results.items() if key not in TIMED}
    return took, told


@contextmanager
def workers(count: int) -> Iterator[str]:
    """Start a scheduler and so many workers, each a process; give the scheduler's HOST:PORT."""
    from distributed import Client

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    env = os.environ | THREAD | {"DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    dask = [sys.executable, "-m", "dask"]
    host, port = address.split(":")
    wanted = [[*dask, "scheduler", f"--host={host}", f"--port={port}", "--no-dashboard"]]
    wanted += [[*dask, "worker", address, "--nthreads=1", "--no-dashboard"]] * count
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        for words in wanted:
            process = stack.enter_context(subprocess.Popen(words, env=env, **quiet))
            stack.callback(process.terminate)
        with Client(f"tcp://{address}", timeout=60, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)
            client.run(__import__, "torch")  # so that no clock counts the first import
        yield address


def executors(results: Results) -> str:
    """What workers of dask save."""
    rows = [[str(one["workers"]), f"{one['seconds']:.0f}"] for one in results["rows"]]
    return markdown(["workers", f"seconds of {results['runs']} runs"], rows)


if __name__ == "__main__":
    main(sys.argv[1:])
