"""Every ratio of the speed page, in one file of results: ``python -m benchmarks.speed``.

Each part runs in a process of its own, so that none inherits the memory of another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from benchmarks import conversion_speed, loading_speed, mask_speed, start_speed, step_speed
from benchmarks.run import ROOT

PAIRED: tuple[Callable[[int], dict[str, dict[str, float]]], ...] = (
    conversion_speed.measured,
    conversion_speed.places,
    step_speed.measured,
    mask_speed.measured,
    loading_speed.measured,
    start_speed.measured,
)
"""What is timed in pairs, ours and the bare work in turn."""


def main(pairs: int) -> None:
    """Measure everything and write it."""
    found: dict[str, Any] = {
        "about": __doc__,
        "pairs": pairs,
        "machine": describe_machine(),
        "ratios": {},
    }
    for part in PAIRED:
        ratios = alone(part, pairs)
        for name, told in ratios.items():
            span = f"({told['low']:.3f} to {told['high']:.3f})"
            print(f"{told['ratio']:6.3f} {span}  {name}", flush=True)
        found["ratios"] |= ratios
    found["peaks"] = alone(conversion_speed.peaks)
    found["sampled"] = alone(conversion_speed.sampled)
    print(json.dumps({key: found[key] for key in ("peaks", "sampled")}, indent=1))
    write_text(ROOT / "results" / "speed.json", json.dumps(to_json(found), indent=1) + "\n")


def alone(part: Callable[..., Any], *given: Any) -> Any:
    """Run a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(part, *given).result()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
