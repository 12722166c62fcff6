"""Kill runs at random moments, resume them, compare bit by bit: ``python -m benchmarks.survive``.

Each method is run once undisturbed on the demo's data, and again and again with SIGKILL at random
moments, resumed after each, until it was killed often enough. What differs is counted: tensors of
the networks, metrics, results. Only times and the names of folders may differ.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from adaptune.data.demo import build_demo
from adaptune.runtime.files import read_lines, to_json, write_text
from adaptune.runtime.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "survive.json"
DIFFERENCES = ("tensors that differ", "metrics that differ", "results that differ")
TIMED = ("seconds", "config")
"""Fields that measure time, or name the folder."""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survive", description=__doc__)
    parser.add_argument("--methods", default="ft,lp-ft,daft", help="names, with commas")
    parser.add_argument("--kills", type=int, default=20, help="kills of each method's run")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training images")
    parser.add_argument("--classes", type=int, default=8, help="classes of the demo to take")
    parser.add_argument("--jobs", type=int, default=1, help="methods at a time")
    parser.add_argument("--seed", type=int, default=0, help="what decides the moments")
    parser.add_argument("--work", type=Path, default=Path("runs/survive"), help="where runs go")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results go")
    given = parser.parse_args(words)
    domains = build_demo(given.work / "data")
    common = [str(domains["twemoji"]), f"--ood=openmoji={domains['openmoji']}"]
    classes = sorted(folder.name for folder in domains["twemoji"].iterdir())[: given.classes]
    common += ["--image-size=64", "--crop=1", f"--epochs={given.epochs}", "--batch-size=16"]
    common += ["--classes", *classes]
    with ThreadPoolExecutor(given.jobs) as pool:  # the work is done by other processes

        def one(method: str) -> dict[str, Any]:
            return survive(method, common, given.work, given.kills, random.Random(given.seed))

        rows = []
        for row in pool.map(one, given.methods.split(",")):
            rows.append(row)
            print(json.dumps(row), flush=True)
    found = {
        "rows": rows,
        "epochs": given.epochs,
        "classes": given.classes,
        "machine": describe_machine(),
    }
    write_text(given.out, json.dumps(to_json(found), indent=1) + "\n")


def survive(
    method: str, common: Sequence[str], work: Path, kills: int, moments: random.Random
) -> dict[str, Any]:
    """Run once in peace, then until ``kills`` kills; count what differs in the runs that ended."""
    peace, war = work / f"{method}-peace", work / f"{method}-war"
    for folder in (peace, war):
        shutil.rmtree(folder, ignore_errors=True)
    words = [sys.executable, "-m", "adaptune", "fit"]
    begin = [*words, *common, f"--method={method}", "--checkpoint-minutes=0.02"]
    began = time.perf_counter()
    subprocess.run([*begin, f"--out={peace}"], check=True, capture_output=True)
    whole = time.perf_counter() - began
    killed: list[str] = []
    runs, found = 0, dict.fromkeys(DIFFERENCES, 0)
    while len(killed) < kills:
        known = (war / "config.yaml").is_file()
        again = [*words, "--resume", f"--out={war}"] if known else [*begin, f"--out={war}"]
        if killed_after(again, moments.uniform(0.2, 0.8) * whole):
            killed.append(stage(war))
            if len(killed) < kills:
                continue
            resume = [*words, "--resume"] if (war / "config.yaml").is_file() else begin
            subprocess.run([*resume, f"--out={war}"], check=True, capture_output=True)
        runs += 1
        found = {key: found[key] + more for key, more in differences(peace, war).items()}
        shutil.rmtree(war)
    return {
        "method": method,
        "kills": len(killed),
        "killed in": {one: killed.count(one) for one in sorted(set(killed))},
        "runs": runs,
        "seconds undisturbed": round(whole, 1),
        **found,
    }


def killed_after(words: Sequence[str], seconds: float) -> bool:
    """Run a command and kill it after some seconds; tell whether it had to be killed."""
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{said.decode()}")
    return False


def stage(folder: Path) -> str:
    """Say how far the run had come."""
    lines = read_lines(folder / "metrics.jsonl")
    return f"epoch {lines[-1]['epoch'] + 1}" if lines else "start"


def differences(one: Path, other: Path) -> dict[str, int]:
    """Count tensors, lines and fields that are not equal to the bit."""
    tensors = 0
    for name in ("best", "last"):
        pair = [load_file(folder / name / "network.safetensors") for folder in (one, other)]
        keys = pair[0].keys() | pair[1].keys()
        tensors += sum(not _equal(pair[0].get(key), pair[1].get(key)) for key in keys)
    lines = [_untimed(read_lines(folder / "metrics.jsonl")) for folder in (one, other)]
    results = [_untimed([json.loads((f / "results.json").read_text())])[0] for f in (one, other)]
    told = sum(a != b for a, b in zip(*lines, strict=True))
    fields = sum(results[0][key] != results[1].get(key) for key in results[0])
    return dict(zip(DIFFERENCES, (tensors, told, fields), strict=True))


def _equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def _untimed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines]


if __name__ == "__main__":
    main(sys.argv[1:])
