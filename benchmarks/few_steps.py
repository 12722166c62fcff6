"""Accuracy against steps and images a class: ``python -m benchmarks.few_steps NAME [--data DIR]``.

NAME is a protocol, ``few-steps`` or ``many-steps``: domains of the source ``photos``, of whose
training images so many a class are kept, and so many steps. A cell that is in the file of rows is
not run again, so an interrupted benchmark goes on. What comes of it goes to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adaptune.data.domains import DomainData, Loading
from adaptune.data.file_rows import FileRows
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.runs.setup import Setup, open_session
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.selection.epochs import BestEpoch, best_by_validation
from benchmarks.run import ROOT
from benchmarks.sources import photos

LEAST_VALIDATED = 9
"""Validation images that are kept at least, where images a class are few."""


@dataclass(frozen=True)
class Cell:
    """A run: the domain trained on, images a class (0: all), steps, a variant and a seed."""

    domain: str
    images: int
    steps: int
    variant: str
    seed: int


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_steps", description=__doc__)
    parser.add_argument("protocol", help="a name in benchmarks/protocols")
    parser.add_argument("--data", type=Path, help="a folder of folders, one a further vendor")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where rows are kept")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "OF"))
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    given = parser.parse_args(words)
    file = ROOT / "protocols" / f"{given.protocol}.toml"
    protocol = tomllib.loads(file.read_text())
    rows = given.work / f"{given.protocol}.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    done = {cell_of(row) for row in read(rows)}
    opened = photos.open_source(given.data, given.work / "data")
    weights = photos.weights(given.work / "data", protocol["setting"]["weights"])
    loading = Loading(**protocol["loading"])
    data = {name: opened[name](loading) for name in protocol["domains"]}
    which, parts = given.part
    for cell in [one for one in cells(protocol) if one not in done][which::parts]:
        row = vars(cell) | run(protocol, cell, data[cell.domain], weights)
        with rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*row.values(), flush=True)
    results = {
        "about": __doc__,
        "protocol": protocol,
        "rows": read(rows),
        "machine": describe_machine(),
    }
    out = given.out / f"{given.protocol}.json"
    write_text(out, json.dumps(to_json(results), indent=1) + "\n")


def read(rows: Path) -> list[dict[str, Any]]:
    """Read the rows that there are."""
    return [json.loads(line) for line in rows.read_text().splitlines()] if rows.is_file() else []


def cell_of(row: Mapping[str, Any]) -> Cell:
    """Give the cell that a row is of."""
    return Cell(*(row[name] for name in Cell.__dataclass_fields__))


def cells(protocol: Mapping[str, Any]) -> Iterator[Cell]:
    """Lay out all runs, seed by seed, so that an interrupted benchmark has whole seeds."""
    for seed in protocol["seeds"]:
        for (images, steps), domain in itertools.product(protocol["sizes"], protocol["domains"]):
            for variant in protocol["variants"]:
                yield Cell(domain, images, steps, variant, seed)


def run(
    protocol: Mapping[str, Any], cell: Cell, data: DomainData, weights: Path | None
) -> dict[str, float]:
    """Train and test one cell: accuracy at home and mean accuracy elsewhere, in percent."""
    said = dict(protocol["variants"][cell.variant])
    method = METHODS[said.pop("method")]
    data = fewer(data, cell.images, cell.seed) if cell.images else data
    steps = math.ceil(len(data.sets["train"]) / data.loading.batch_size)
    epochs = max(1, round(cell.steps / steps))
    plan = Plan(**protocol["plan"], **said.pop("plan", {}), epochs=epochs, seed=cell.seed)
    setting = Setup(**protocol["setting"] | {"weights": str(weights)})
    torch.manual_seed(cell.seed)
    began = time.perf_counter()
    session = open_session(method, said, data.seeded(cell.seed), setting, plan)
    best, kept = BestEpoch(), {}
    for epoch in session.epochs():
        best = best_by_validation(best, epoch.number, session.validate())
        if best.epoch == epoch.number:
            kept = {name: one.clone() for name, one in session.net.state_dict().items()}
    seconds = time.perf_counter() - began
    session.net.load_state_dict(kept)
    found = {
        name: session.evaluate(tests).scores.main.value
        for name, tests in session.data.tests().items()
    }
    return {
        "epochs": epochs,
        "best": best.epoch,
        "id": found.pop("id"),
        "ood": mean(found.values()),
        "seconds": round(seconds, 2),
    }


def fewer(data: DomainData, images: int, seed: int) -> DomainData:
    """Keep so many training images a class, and a quarter as many for validation."""
    train, val = data.sets["train"], data.sets["val"]
    assert isinstance(train, FileRows)
    assert isinstance(val, FileRows)
    random = torch.Generator().manual_seed(seed)
    labels = torch.tensor(train.labels)
    order = torch.randperm(len(labels), generator=random)
    chosen = [row for c in labels.unique() for row in order[labels[order] == c][:images].tolist()]
    number = max(LEAST_VALIDATED, len(chosen) // 4)
    told = torch.randperm(len(val), generator=random)[:number].tolist()
    kept = train.chosen(sorted(chosen))
    return replace(
        data, sets={**data.sets, "train": kept, "val": val.chosen(sorted(told))}, augmented=kept
    )


def means(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], dict[str, tuple[float, ...]]]:
    """Give accuracy at home and elsewhere by size and variant, over what all variants have run.

    A size is (images, steps). A domain and seed that some variant lacks counts for none.
    """
    runs: dict[tuple[int, int], dict[str, dict[tuple[str, int], tuple[float, float]]]] = {}
    for row in rows:
        own = runs.setdefault((row["images"], row["steps"]), {}).setdefault(row["variant"], {})
        own[row["domain"], row["seed"]] = (row["id"], row["ood"])
    found = {}
    for size, variants in sorted(runs.items()):
        shared = set.intersection(*(set(own) for own in variants.values()))
        found[size] = {
            name: tuple(mean(own[one][place] for one in shared) for place in range(2))
            for name, own in variants.items()
        }
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
