"""Streams of several domains one after the other, each of which may come again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """The ``rows`` of a stream that are of one domain, which comes for the ``cycle``-th time."""

    domain: str
    cycle: int
    rows: range

    def __str__(self) -> str:
        return self.domain if self.cycle == 1 else f"{self.domain}, cycle {self.cycle}"


def visits_of(sizes: Mapping[str, int], cycles: int = 1) -> list[Visit]:
    """Lay domains of so many rows one after the other, all of them so many times.

    Raises:
        ValueError: If they come less than once.

    >>> [str(one) for one in visits_of({"fog": 3, "snow": 2}, cycles=2)]
    ['fog', 'snow', 'fog, cycle 2', 'snow, cycle 2']
    >>> visits_of({"fog": 3, "snow": 2})[1].rows
    range(3, 5)
    """
    if cycles < 1:
        raise ValueError(f"domains come at least once: got {cycles} cycles")
    found, start = list[Visit](), 0
    for cycle in range(1, cycles + 1):
        for domain, size in sizes.items():
            found.append(Visit(domain, cycle, range(start, start + size)))
            start += size
    return found


def batches_of(visits: Iterable[Visit], size: int) -> list[range]:
    """Cut visits into batches of rows, none of which has rows of two.

    >>> batches_of(visits_of({"fog": 3, "snow": 2}), 2)
    [range(0, 2), range(2, 3), range(3, 5)]
    """
    return [
        one.rows[start : start + size] for one in visits for start in range(0, len(one.rows), size)
    ]


def forgetting(visits: Sequence[Visit], values: Sequence[float]) -> dict[str, float]:
    """Give by domain what it lost of a value from when it came first to when it came last.

    Domains that came once are left out; below 0 it gained.

    >>> forgetting(visits_of({"fog": 3, "snow": 2}, 2), [80.0, 60.0, 70.0, 65.0])
    {'fog': 10.0, 'snow': -5.0}
    """
    reached: dict[str, list[float]] = {}
    for one, value in zip(visits, values, strict=True):
        reached.setdefault(one.domain, []).append(value)
    return {domain: own[0] - own[-1] for domain, own in reached.items() if len(own) > 1}
