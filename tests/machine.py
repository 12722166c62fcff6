"""Tests in several processes that share a machine, or have it to themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path


@contextmanager
def machine(whole: Path, door: Path, *, alone: bool) -> Iterator[None]:
    """Wait until the machine may be shared, or until nobody else has it; whoever waits comes first.

    Two files that all processes can open stand for the machine and the door to it.
    """
    with whole.open() as all_of_it, door.open() as way_in:
        flock(way_in, LOCK_EX)
        flock(all_of_it, LOCK_EX if alone else LOCK_SH)
        flock(way_in, LOCK_UN)
        try:
            yield
        finally:
            flock(all_of_it, LOCK_UN)  # a process that a test left behind would hold it
