"""Write the tables of the pages from the committed results: ``python benchmarks/table.py``.

A table stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``; NAME is a file in ``results/``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


def table(results: dict[str, Any]) -> str:
    """Give a comparison's summary as a Markdown table."""
    summary = results["summary"]
    domains = list(summary[0]["domains"])
    head = ["method", "ID %", *(f"{name} %" for name in domains), "distortion", "seconds"]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for line in summary:
        cells = [line["id"], *(line["domains"][name] for name in domains)]
        said = [f"{c['mean']:.1f} ({c['low']:.1f} to {c['high']:.1f})" for c in cells]
        ends = [f"{line['distortion']:.3f}", f"{line['seconds']:.0f}"]
        lines.append(" | ".join([f"`{line['method']}`", *said, *ends]))
    return "\n".join(f"| {line} |" if " | " in line else f"|{line}|" for line in lines)


def filled(page: str) -> str:
    """Give a page with every table as the results have it."""

    def replace(found: re.Match[str]) -> str:
        name = found.group(1)
        results = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        return f"<!-- {name} -->\n{table(results)}\n<!-- /{name} -->"

    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", replace, page, flags=re.DOTALL)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
