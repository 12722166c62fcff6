"""Which of many finished networks to take: ``python -m benchmarks.choosing NAME... --work DIR``.

Reads the networks that ``python -m benchmarks.run NAME --work DIR`` left, and trains nothing. Each
is run once on every test domain and on corrupted versions of its own test images; what it comes to
is kept beside it in ``choosing.json``, so an interrupted measurement goes on. All networks that
were trained on a domain, of whatever method and seed, are one bag, from which each score takes one;
smaller bags leave some of them out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from lightning_fabric import Fabric

from adaptune.data.domains import DomainData
from adaptune.engine.evaluate import evaluate, sample_outputs
from adaptune.networks.network import Network
from adaptune.report.terminal import Terminal
from adaptune.results.answers import Answers
from adaptune.results.row import RunRow
from adaptune.results.run import read_results
from adaptune.results.score import number
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.selection import SCORES
from adaptune.selection.scoring import LabelFreeScorer, answers_of
from adaptune.studies.oracle import agreeing, oracle_gaps
from adaptune.tasks.classification import Classification
from adaptune.types import Labeled, Split
from benchmarks.run import ROOT, opened
from benchmarks.sources.corruptions import corrupted
from benchmarks.sources.rows import Files, Pictures

FABRIC = Fabric(accelerator="cpu", devices=1)
CORRUPTIONS = tuple(
    f"{family}-3" for family in ("gaussian-noise", "gaussian-blur", "contrast", "jpeg", "fog")
)
"""What the images of the home test are corrupted by, in the middle of five severities."""

DRAWN = {"twemoji", "openmoji", "noto", "noto-blob", "fluent-flat", "fluent-3d"}
"""Domains of emoji; all others are photos and drawings."""

BAGS: dict[str, Callable[[RunRow], bool]] = {
    "all": lambda row: True,
    "one way a method": lambda row: row.method == row.base,
    "ft, lp-ft, daft": lambda row: row.method in ("ft", "lp-ft", "daft"),
}
"""Which of the networks that were trained on a domain are chosen among."""

ESTIMATES = (
    *("id-validation", "confidence", "confidence-calibrated", "doc", "doc-calibrated"),
    *("atc", "atc-calibrated", "atc-entropy", "atc-entropy-calibrated", "aline-s", "aline-d"),
)
"""Scores that say how many images are right, in percent."""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choosing", description=__doc__)
    parser.add_argument("protocols", nargs="+", help="names in benchmarks/protocols, or TOML files")
    parser.add_argument("--data", type=Path, help="where you keep the data that they need")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where the runs are")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="where results go")
    given = parser.parse_args(words)
    found: list[tuple[RunRow, Answers]] = []
    with Terminal() as terminal:
        for name in given.protocols:
            file = ROOT / "protocols" / f"{name}.toml"
            file = file if file.is_file() else Path(name)
            bench = opened(tomllib.loads(file.read_text()), given.data, given.work / file.stem)
            for domain, data in bench.domains.items():
                found += judged(domain, data, bench.work / domain, terminal)
    bags = {name: bag([one for one in found if fits(one[0])]) for name, fits in BAGS.items()}
    rows = bags["all"]
    results = {
        "about": __doc__,
        "protocols": given.protocols,
        "networks": {d: sum(r.domain == d for r in rows) for d in {r.domain: 0 for r in rows}},
        "regimes": {name: counted(rows, name) for name in ("emoji", "photos", "corruptions")},
        "bags": {name: brief(oracle_gaps(own)) for name, own in bags.items() if own},
        "machine": describe_machine(),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    write_text(given.out / "choosing.json", json.dumps(to_json(results), indent=1) + "\n")
    print(given.out / "choosing.json")


def bag(found: Sequence[tuple[RunRow, Answers]]) -> list[RunRow]:
    """Give rows with what they score among each other."""
    return agreeing([row for row, _ in found], [answers for _, answers in found])


def brief(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Say of each score what it comes to over all pairs, of which only the number is kept."""
    return {
        name: {"pairs": len(one["cases"])} | {k: v for k, v in one.items() if k != "cases"}
        for name, one in found.items()
    }


def regime(trained: str, target: str) -> str:
    """Say what kind of shift lies between two domains.

    >>> regime("noto", "twemoji"), regime("noto", "photos"), regime("noto", "fog-3")
    ('emoji', 'photos', 'corruptions')
    """
    if target in CORRUPTIONS:
        return "corruptions"
    return "emoji" if {trained, target} <= DRAWN else "photos"


def counted(rows: Sequence[RunRow], name: str) -> dict[str, dict[str, Any]]:
    """Say of each score how it chooses under shifts of one kind, and how far estimates are off."""
    kept = [
        replace(
            row,
            label_free={
                t: own for t, own in row.label_free.items() if regime(row.domain, t) == name
            },
        )
        for row in rows
    ]
    found = oracle_gaps([row for row in kept if row.label_free]) if any_of(kept) else {}
    for score in set(ESTIMATES) & set(found):
        off = [
            abs(number(own[score]) - row.elsewhere[target])
            for row in kept
            for target, own in row.label_free.items()
        ]
        known = [value for value in off if not math.isnan(value)]
        found[score]["off"] = mean(known) if known else None
    return found


def any_of(rows: Iterable[RunRow]) -> bool:
    return any(row.label_free for row in rows)


def judged(
    domain: str, data: DomainData, place: Path, terminal: Terminal
) -> Iterator[tuple[RunRow, Answers]]:
    """Judge every network that was trained on a domain; give its row, and its answers."""
    folders = [one.parent.parent for one in sorted(place.glob("*/best/network.json"))]
    folders = [one for one in folders if (one / "results.json").is_file()]
    home, of = None, ""
    for folder in sorted(folders, key=lambda one: (str(start_of(one)), one)):
        kept = Judged.read(folder / "choosing.json")
        if kept is None:
            if home is None or of != str(start_of(folder)):
                of = str(start_of(folder))
                home = Home.of(start_of(folder).network(data.classes), data)
            terminal.say(f"{domain}: {folder.name}, one of {len(folders)}")
            kept = home.judge(folder)
            write_text(folder / "choosing.json", json.dumps(to_json(asdict(kept))) + "\n")
        run = read_results(folder / "results.json")
        row = RunRow(run.method, domain, run.seed, kept.truth, None, run.seconds, base=run.base)
        yield replace(row, label_free=kept.scores), Answers(**kept.answers)


def start_of(folder: Path) -> Setup:
    """Say what a run began with."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    return Setup(**{key: config[key] for key in ("backbone", "weights", "image_size", "crop")})


@dataclass(frozen=True)
class Judged:
    """What a network came to on every test set: scores without labels, and the truth."""

    scores: Mapping[str, Mapping[str, float | None]]
    truth: Mapping[str, float]
    answers: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> Judged | None:
        """Read what was found earlier, if it was all that is asked for today."""
        if not file.is_file():
            return None
        found = cls(**json.loads(file.read_text()))
        whole = all(own.keys() == SCORES.keys() for own in found.scores.values())
        return found if whole and set(CORRUPTIONS) <= found.truth.keys() else None


@dataclass(frozen=True)
class Home:
    """A training domain with all that its networks are judged on, read once.

    ``before`` are the features of each test set before training.
    """

    sets: Mapping[Split, list[Labeled]]
    tests: Mapping[str, list[Labeled]]
    before: Mapping[str, Any]
    start: Network

    @classmethod
    def of(cls, start: Network, data: DomainData) -> Home:
        """Read a domain, and run what training began with on its tests."""
        data = replace(data, ood=data.ood | corruptions(data, start)).with_input(start.preprocess)
        sets = {split: list(data.scan(split)) for split in ("train", "val")}
        tests = {name: list(rows) for name, rows in data.tests().items() if name != "id"}
        before = {
            name: sample_outputs(start, rows, fabric=FABRIC).features
            for name, rows in tests.items()
        }
        return cls(sets, tests, before, start)

    def scan(self, split: Split) -> list[Labeled]:
        """Give the rows of a split, as a scorer asks for them."""
        return self.sets[split]

    def sample(self, split: Split, number: int) -> list[Labeled]:
        """Give all rows of a split, which are fewer than that."""
        assert sum(map(len, self.sets[split])) <= number
        return self.sets[split]

    def judge(self, folder: Path) -> Judged:
        """Run a saved network on every test set."""
        net = Network.load(folder / "best")
        assert net.preprocess == self.start.preprocess
        scorer = LabelFreeScorer(net, self, FABRIC)  # type: ignore[arg-type]
        task = Classification(len(net.classes))
        scores, truth, answers = {}, {}, {}
        for name, rows in self.tests.items():
            found = evaluate(net, rows, task, fabric=FABRIC)
            truth[name] = found.scores.main.value
            scores[name] = scorer(found.sample, self.before[name])
            answers[name] = answers_of(found.sample)
        said = Answers(answers_of(scorer.val), scorer.val.y.tolist(), answers)
        return Judged(scores, truth, asdict(said))


def corruptions(data: DomainData, start: Network) -> dict[str, Pictures]:
    """Give the home test of a domain under each corruption, at the size that networks look at."""
    rows, side = data.sets["test"], start.preprocess.size
    found = {}
    for name in CORRUPTIONS:
        family, _, severity = name.rpartition("-")
        change = partial(corrupted, family, int(severity), side)
        found[name] = Pictures(Files(tuple(rows.paths)), rows.labels, change=change)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
