"""What a Parquet manifest of a million rows takes: ``python -m benchmarks.manifests``.

Tables of made-up paths, 1000 classes and both splits are listed, each in a process of its own on
one thread. Memory is what the process holds after listing over what it held before, and its peak
over the same; of two processes the larger costs count. No image is there, and none is read.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from adaptune.data.readers.manifest import read_manifest
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "manifests.json"
SIZES = (10_000, 100_000, 1_000_000)
CLASSES, FOLDERS = 1000, 100
"""Classes of a table, and how many rows a folder of a class holds."""


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            file = write_table(Path(folder) / f"{size}.parquet", size)
            two = [measured(file) for _ in range(2)]
            most = {key: max(one[key] for one in two) for key in two[0]}
            rows.append({"manifest rows": size, "file": file.stat().st_size / 1e6, **most})
            print(rows[-1], flush=True)
    results = {"about": __doc__, "rows": rows, "machine": describe_machine()}
    write_text(RESULTS, json.dumps(to_json(results), indent=1) + "\n")


def write_table(file: Path, size: int) -> Path:
    """Write a table of as many rows, piece by piece."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, pa.string()) for name in ("path", "label", "split")])
    with parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, size, 50_000):
            rows = range(start, min(size, start + 50_000))
            labels = [f"class-{row % CLASSES:04}" for row in rows]
            paths = [
                f"images/{label}/{row // CLASSES // FOLDERS:03}/{row:08}.jpg"
                for row, label in zip(rows, labels, strict=True)
            ]
            splits = ["val" if row % 20 == 0 else "train" for row in rows]
            writer.write_table(pa.table([paths, labels, splits], schema=schema))
    return file


def measured(file: Path) -> dict[str, float]:
    """List a table in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_list, args=(file, there))
    process.start()
    told: dict[str, float] = here.recv()
    process.join()
    return told


def _list(file: Path, there: Connection) -> None:
    import pyarrow.parquet  # noqa: F401 - not to be counted

    before, began = _memory("VmRSS"), time.perf_counter()
    found = read_manifest(file, "all")
    seconds = time.perf_counter() - began
    held, peak = _memory("VmRSS") - before, _memory("VmHWM") - before
    assert sum(len(one.classes) for one in found.values()) == CLASSES
    there.send({"seconds": seconds, "held": held, "peak": peak})


def _memory(key: str) -> float:
    """Megabytes that this process holds, or has held at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
