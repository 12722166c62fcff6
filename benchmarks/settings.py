"""Measure every method in its own setting: ``python -m benchmarks.settings [--data DIR]``.

The protocol is ``benchmarks/protocols/settings.toml`` unless ``--protocol`` says another; results
go to ``benchmarks/results`` under its name. Its ``source`` is a module of ``benchmarks/sources``
that lists domains and pairs them, by default emoji vendors. One that names no ``classes`` has those
that all domains share; a variant may have fewer ``seeds``, and a ``plan`` of its own. A part that
has a ``start`` goes on from a run of another part, without the source unless it is ``labelled``;
its ``teachers`` are such runs. A part may have ``few`` labelled images of the target, which the
seed draws, or ``only`` one of the sources, by its number. Finished runs below ``--work`` are not
run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from adaptune.commands.config import yaml_text
from adaptune.commands.options import method_options
from adaptune.data.domains import DomainData, Loading
from adaptune.data.listing import Listing
from adaptune.data.rotation import shared_classes
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.terminal import Terminal
from adaptune.results.run import RunResults
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.studies.grid import Cell, run_cells
from adaptune.studies.oracle import oracle_gaps
from benchmarks.cycles import Cycle
from benchmarks.gain import alike, asked, gain, row_of, values
from benchmarks.rejecting import at_best, confidence
from benchmarks.sources.pairs import pair
from benchmarks.streaming import Meeting, met, stream_gains, together

ROOT = Path(__file__).parent
Found = dict[str, list[RunResults]]
"""The results of all runs, by part of the protocol."""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settings", description=__doc__)
    parser.add_argument("--protocol", type=Path, default=ROOT / "protocols" / "settings.toml")
    parser.add_argument("--data", type=Path, help="a folder of folders, one a further vendor")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each in a process")
    parser.add_argument("--parts", nargs="+", default=[], help="only these; by default all")
    parser.add_argument("--seeds", type=int, help="fewer or more seeds than the protocol says")
    parser.add_argument("--out", type=Path, help="by default results/ and the protocol's name")
    given = parser.parse_args(words)
    protocol = tomllib.loads(given.protocol.read_text())
    if given.seeds:
        protocol["seeds"] = list(range(given.seeds))
    if len(protocol["pairs"]) * len(protocol["seeds"]) < 2:
        parser.error("gains have intervals over two pairs or seeds at least: this protocol has one")
    work = given.work / given.protocol.stem
    source = import_module(f"benchmarks.sources.{protocol.get('source', 'pairs')}")
    bench = Bench(protocol, source.listings(given.data, given.work / "data"), work, source.pair)
    with Terminal() as terminal:
        parts = [name for name in protocol["parts"] if name in (given.parts or protocol["parts"])]
        streamed = not given.parts or "streams" in given.parts
        results = run(bench, parts, given.jobs, terminal, streamed=streamed)
    out = given.out or ROOT / "results" / f"{given.protocol.stem}.json"
    write_text(out, json.dumps(to_json(results), indent=1) + "\n")
    print(out)


@dataclass(frozen=True)
class Bench:
    """The protocol with its data."""

    protocol: Mapping[str, Any]
    vendors: Mapping[str, Listing]
    work: Path
    pair: Callable[..., DomainData] = pair

    def part(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.protocol["parts"][name]
        return found

    def cells(self, name: str) -> Iterator[Cell]:
        """Lay out a part: pair by pair, seed by seed, variant by variant."""
        part, protocol = self.part(name), self.protocol
        pairs = part.get("pairs", protocol["pairs"])
        for (*sources, target), seed in itertools.product(pairs, protocol["seeds"]):
            data = self.data(part, sources, target, seed).seeded(seed)
            for variant, said in part["variants"].items():
                if seed in said.get("seeds", protocol["seeds"]):
                    yield self.cell(name, (*sources, target), seed, variant, options(said), data)

    def cell(
        self,
        name: str,
        domains: Sequence[str],
        seed: int,
        variant: str,
        said: dict[str, Any],
        data: DomainData,
    ) -> Cell:
        part = self.part(name)
        place = f"{' and '.join(domains[:-1])} to {domains[-1]}"
        method = said.pop("method")
        own = {"epochs": self.epochs(part, said), **said.pop("plan", {}), "seed": seed}
        plan = Plan(**{**self.protocol["plan"], **own})
        setting = Setup(**self.protocol["setting"] | part.get("setting", {}))
        began, *taught = (
            str(self.folder(before, place, its, seed)) if before else ""
            for one in (part.get("start", ""), *part.get("teachers", ()))
            for before, _, its in [one.partition("/")]
        )
        setting = replace(setting, start=began, teachers=tuple(taught)).for_method(METHODS[method])
        words = [f"{key}={value}" for key, value in said.items()]
        values = method_options(method, words, plan.optimizer)
        of = {"method": method, **values, "domains": list(domains), "classes": list(data.classes)}
        known = setting.settings() | plan.settings() | {"batch_size": data.loading.batch_size}
        known |= {key: part[key] for key in ("few", "only") if key in part}
        folder = self.folder(name, place, variant, seed)
        config = yaml_text(of | known)
        return Cell(folder, variant, place, method, values, data, setting, plan, config)

    def meetings(self, name: str) -> Iterator[Meeting]:
        """Lay out streams: of each pair's target, or of each source's own test images."""
        said, protocol = self.protocol["streams"][name], self.protocol
        before, _, its = said["start"].partition("/")
        known = set()
        pairs = self.part(before).get("pairs", protocol["pairs"])
        for (*sources, target), seed in itertools.product(pairs, protocol["seeds"]):
            place = f"{' and '.join(sources)} to {target}"
            run = self.folder(before, place, its, seed)
            data = self.data(self.part(before), sources, target)
            corrupts = tuple(said.get("families", ()))
            stream = sources[0] if corrupts else place
            if (stream, seed) in known:
                continue
            known.add((stream, seed))
            meeting = Meeting(
                self.folder(f"streams-{name}", stream, "met", seed).with_suffix(".json"),
                run,
                stream,
                data.sets["test"] if corrupts else data.ood[target],
                seed,
                tuple(said["batches"]),
                said["variants"],
                corrupts,
                said.get("severity", 0),
            )
            if "cycles" not in said:
                yield meeting
                continue
            others = [one for one in said.get("vendors", ()) if one not in sources]
            vendors = {one: self.data(self.part(before), sources, one).ood[one] for one in others}
            yield Cycle(**vars(meeting), vendors=vendors, cycles=said["cycles"])

    def folder(self, part: str, place: str, variant: str, seed: int) -> Path:
        """Say where a run is kept."""
        return self.work / part / place.replace(" ", "-") / f"{variant}-{seed}".replace(" ", "-")

    def epochs(self, part: Mapping[str, Any], said: dict[str, Any]) -> int:
        """Give the epochs of a variant, or else of its part, or else of all."""
        own: int = said.pop("epochs", part.get("epochs", self.protocol["plan"]["epochs"]))
        return own

    def data(
        self, part: Mapping[str, Any], sources: Sequence[str], target: str, seed: int = 0
    ) -> DomainData:
        """Open what a part may see of a pair; the seed draws a few labelled images."""
        classes = self.protocol.get("classes") or shared_classes(list(self.vendors.values()))
        known = classes[: self.protocol["known"]] if part.get("open") else classes
        sources = [sources[part["only"]]] if "only" in part else sources
        return self.pair(
            self.vendors,
            sources,
            target,
            classes=known,
            adapts=part.get("adapts", False),
            others=classes[len(known) :],
            begun="start" in part and not part.get("labelled", False),
            **({"few": part["few"], "seed": seed} if "few" in part else {}),
            loading=Loading(**self.protocol["loading"]),
        )


def run(
    bench: Bench, parts: Sequence[str], jobs: int, terminal: Terminal, *, streamed: bool
) -> dict[str, Any]:
    """Run the parts in their order, then the streams; count."""
    found: Found = {}
    failures = []
    for name in parts:
        found[name], failed = run_cells(list(bench.cells(name)), jobs=jobs, terminal=terminal)
        failures += [{"part": name, **vars(one)} for one in failed]
    counted = [one for name in parts for one in gains(bench.protocol, name, found)]
    streams, thresholds = {}, {}
    for name in (one for one in parts if bench.part(one).get("measure") == "h"):
        told, thresholds[name] = beyond_confidence(bench, name, found, terminal)
        counted += told
    for name, said in bench.protocol.get("streams", {}).items() if streamed else ():
        rows = met(list(bench.meetings(name)), jobs=jobs, terminal=terminal)
        streams[name] = together(rows)
        counted += stream_gains(name, said, rows)
    for one in counted:
        terminal.say(
            f"{one['setting']}: {one['variant']} against {one['against']}, {one['measure']} "
            f"{one['mean']:+.1f} ({one['low']:+.1f} to {one['high']:+.1f})"
        )
    return {
        "about": bench.protocol["about"],
        "protocol": dict(bench.protocol),
        "gains": counted,
        "rows": [row_of(name, one) for name in parts for one in found[name]],
        "streams": streams,
        "thresholds": thresholds,
        "selection": {name: oracle_gaps(found[name]) for name in parts},
        "failures": failures,
        "machine": describe_machine(),
    }


def gains(protocol: Mapping[str, Any], name: str, found: Found) -> Iterator[dict[str, Any]]:
    """Give how much each variant of a part gains over what it is to be compared with.

    Values are means over seeds, gains the mean over pairs with Student's 95% interval over pairs.
    """
    part = protocol["parts"][name]
    measure = part.get("measure", protocol.get("measure", "accuracy"))
    against = [(one, part["against"]) for one in part["variants"]]
    against += [(one, f"{name}/{other}") for one, other in part.get("versus", [])]
    for variant, reference in against:
        beside, _, other = reference.partition("/")
        if (name, variant) == (beside, other) or beside not in found:
            continue
        runs, others = alike(found[name], variant, found[beside], other)
        own, theirs, said = values(runs, measure), values(others, measure), measure
        if beside != name and asked(runs):
            # Images whose labels were given would count for the method alone.
            said = f"{measure}, images not asked about"
            own, theirs = values(runs, "unasked"), values(runs, "before")
        yield gain(
            own,
            theirs,
            setting=name,
            variant=variant,
            said=options(part["variants"][variant]),
            against=other,
            measure=said,
            seeds=len({one.seed for one in runs}),
        )


def beyond_confidence(
    bench: Bench, name: str, found: Found, terminal: Terminal
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare a part's H-scores with those that its start reaches at the best threshold of all."""
    part = bench.part(name)
    before, _, its = part["start"].partition("/")
    terminal.say(f"thresholds of {its}")
    reached = confidence([one for one in bench.cells(before) if one.name == its])
    counted = [
        gain(
            values([one for one in found[name] if one.method == variant], "h"),
            at_best(reached),
            setting=name,
            variant=variant,
            said=said,
            against=f"{its}, best threshold",
            measure="h",
            seeds=len(bench.protocol["seeds"]),
        )
        for variant, said in part["variants"].items()
    ]
    return counted, reached


def options(said: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a protocol says of a variant without its seeds.

    That is its method, options and epochs, and its plan.
    """
    return {key: value for key, value in said.items() if key != "seeds"}


if __name__ == "__main__":
    main(sys.argv[1:])
