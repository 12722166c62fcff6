"""Which label-free score picks good runs: ``python -m benchmarks.selection``.

Reads the rows of committed results, so it trains nothing. All runs of a training domain are a bag.
"""

from __future__ import annotations

import json

from adaptune.results.row import RunRow
from adaptune.runtime.files import to_json, write_text
from adaptune.studies.oracle import oracle_gaps
from benchmarks.run import ROOT

BAGS = ("emoji", "ablation", "rates")


def main() -> None:
    rows = []
    for name in BAGS:
        found = json.loads((ROOT / "results" / f"{name}.json").read_text())["rows"]
        rows += [RunRow.from_dict(row) for row in found]
    results = {
        "about": __doc__,
        "bags": list(BAGS),
        "runs": {d: sum(r.domain == d for r in rows) for d in {r.domain: 0 for r in rows}},
        "selection": oracle_gaps(rows),
    }
    file = ROOT / "results" / "selection.json"
    write_text(file, json.dumps(to_json(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
