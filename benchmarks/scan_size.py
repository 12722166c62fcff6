"""How many images the scan needs: ``python -m benchmarks.scan_size [--data DIR]``.

Converts EfficientNet-Lite0 on random parts of each emoji domain's training images and compares the
statistics, and the curvature that sets the conditioned head's rate, with those of all images.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from adaptune.batchnorm.layers import batchnorms
from adaptune.data.domains import DomainData, Loading
from adaptune.methods.supervised.daft import DAFT
from adaptune.runs.setup import Setup
from adaptune.runtime.files import to_json, write_text
from adaptune.runtime.machine import describe_machine
from adaptune.tasks.classification import Classification
from benchmarks.run import ROOT, some
from benchmarks.sources.emoji import open_source

SIZES = (16, 64, 256)
DRAWS = 5


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs"))
    given = parser.parse_args(words)
    rows = []
    for name, opener in open_source(given.data, given.work / "data").items():
        data = opener(Loading())
        everything = measured(data)
        count = len(data.sets["train"])
        for size in SIZES:
            for seed in range(DRAWS):
                train = some(data.sets["train"], size, seed)
                part = measured(replace(data, sets={**data.sets, "train": train}))
                rows.append({"domain": name, "images": size, "of": count, "seed": seed})
                rows[-1] |= compared(part, everything)
    by_size = {
        size: {
            key: mean(row[key] for row in rows if row["images"] == size)
            for key in ("curvature", "mean_error", "deviation_error")
        }
        for size in SIZES
    }
    results = {"about": __doc__, "rows": rows, "by_size": by_size, "machine": describe_machine()}
    write_text(ROOT / "results" / "scan-size.json", json.dumps(to_json(results), indent=1) + "\n")


def measured(data: DomainData) -> dict[str, Any]:
    """Prepare DAFT on the data; give the converted statistics and the head's curvature."""
    net = Setup(image_size=64, crop=1.0).network(data.classes)
    method = DAFT(net, Classification(len(data.classes)))
    notes = method.prepare(data.with_input(net.preprocess))
    norms = [norm for _, norm in batchnorms(net.body)]
    return {
        "mean": torch.cat([norm.running_mean for norm in norms]).double(),
        "deviation": torch.cat([norm.running_var for norm in norms]).double().sqrt(),
        "curvature": notes["head"]["curvature"],
    }


def compared(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, float]:
    """Give the curvature as a multiple, and the median error of a channel's statistics.

    The mean's error is in deviations of the channel, the deviation's a share of itself.
    """
    shift = (part["mean"] - whole["mean"]).abs() / whole["deviation"].clamp_min(1e-6)
    change = (part["deviation"] / whole["deviation"].clamp_min(1e-6)).clamp_min(1e-6).log().abs()
    return {
        "curvature": part["curvature"] / whole["curvature"],
        "mean_error": float(shift.median()),
        "deviation_error": math.expm1(float(change.median())),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
