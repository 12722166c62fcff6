"""Write the tables of the pages from the committed results: ``python -m benchmarks.table``.

A table stands between ``<!-- NAME KIND -->`` and ``<!-- /NAME KIND -->``: NAME is a file in
``results/``, KIND one of the functions in `KINDS`. Where the file is not there yet, the page says
that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import advice, comparisons, costs, exports, registry, workers
from benchmarks.layout import Results

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

KINDS: dict[str, Callable[[Results], str]] = {
    one.__name__: one
    for one in (
        comparisons.summary,
        comparisons.standings,
        comparisons.domains,
        comparisons.overview,
        comparisons.versus,
        comparisons.rivals,
        comparisons.lost,
        comparisons.tuned,
        comparisons.default,
        comparisons.rates,
        comparisons.corruptions,
        comparisons.gains,
        comparisons.ways,
        comparisons.choices,
        comparisons.by_test,
        advice.advice,
        exports.exports,
        workers.executors,
        registry.measurements,
        costs.selection,
        costs.choosing,
        costs.bags,
        costs.scan,
        costs.kills,
        costs.probes,
        costs.growth,
        costs.manifests,
        costs.ratios,
        costs.sampled,
        costs.steps,
    )
}


WITHOUT = {"measurements"}
"""Kinds that have something to say before there are results."""

NOTHING = "Not measured yet."


def read(name: str) -> Results:
    """Read a committed result; nothing where there is none."""
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    found: Results = json.loads(file.read_text()) if file.is_file() else {}
    return found


def filled(page: str) -> str:
    """Give a page with every table as the results have it."""

    def replace(found: re.Match[str]) -> str:
        name, kind = found.group(1), found.group(2)
        results = read(name)
        told = KINDS[kind](results) if results or kind in WITHOUT else NOTHING
        return f"<!-- {name} {kind} -->\n{told}\n<!-- /{name} {kind} -->"

    kinds = "|".join(KINDS)
    marked = rf"<!-- ([\w-]+) ({kinds}) -->.*?<!-- /\1 \2 -->"
    return re.sub(marked, replace, page, flags=re.DOTALL)


def main() -> None:
    """Fill every page, and draw the figures of the proof, of few steps and of the rates."""
    from adaptune.report import figures
    from adaptune.results.score import Measure
    from adaptune.results.summary import MethodSummary
    from benchmarks import few_steps

    for page in PAGES:
        page.write_text(filled(page.read_text()))
    summary = [MethodSummary.from_dict(line) for line in read("emoji-probe")["summary"]]
    tuned_alike = [line for line in summary if line.method in ("ft", "lp-ft", "daft")]
    (ROOT / "docs" / "emoji.svg").write_text(figures.reached(tuned_alike, Measure()))
    (ROOT / "docs" / "few-steps.svg").write_text(few_steps.drawn(read("few-steps")["rows"]))
    for domain, methods in read("rates")["rates"].items():
        (ROOT / "docs" / f"rates-{domain}.svg").write_text(figures.rates(methods, Measure()))


if __name__ == "__main__":
    main()
