"""What `adaptune doctor` says of domains: how alike classes are, how far apart sets lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adaptune.networks.network import Network
from adaptune.ops.domain_shift import class_mixtures, class_variation, domain_distance
from adaptune.runtime.inputs import in_eval
from adaptune.types import Labeled


def measure_shift(net: Network, sets: Mapping[str, Iterable[Labeled]]) -> dict[str, Any]:
    """Give the ICV of each set by name, and the IDD of every two, by the body's features."""
    seen = {
        name: class_mixtures(_features(net, rows), len(net.classes)) for name, rows in sets.items()
    }
    return {
        "icv": {name: class_variation(one) for name, one in seen.items()},
        "idd": {
            name: {other: domain_distance(one, two) for other, two in seen.items()}
            for name, one in seen.items()
        },
    }


@torch.no_grad()
def _features(net: Network, rows: Iterable[Labeled]) -> Iterator[tuple[Tensor, Tensor]]:
    with in_eval(net.body):
        for some in rows:
            yield net.body(some.x), some.y


def shift_table(shift: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Lay out what `measure_shift` gave: columns, and a row a set."""
    names = list(shift["icv"])
    lines = [
        [name, f"{shift['icv'][name]:.2g}", *(f"{shift['idd'][name][one]:.2g}" for one in names)]
        for name in names
    ]
    return ["domain", "ICV", *(f"IDD to {name}" for name in names)], lines
