"""Workers of dask, on this machine or on others, that do what is handed to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

DASK = "dask://"
"""How an executor is named: this, and the scheduler's HOST:PORT."""

PATIENCE = 10.0
"""Seconds that a scheduler, and its first worker, are waited for."""

_ONE = threading.Lock()
"""Held by what runs in this process: random numbers and what is kept of data belong to one."""


def work_on_cluster(
    work: Callable[[Item], Made], items: Mapping[int, Item], executor: str
) -> Iterator[tuple[int, Made | Exception]]:
    """Do ``work`` on every item by the workers of a scheduler; give each by number as it ends.

    Where a worker dies, dask hands what it was at to another; what three workers died of is given
    up with an error, as is what a worker refuses.

    Raises:
        ValueError: If there is no such scheduler, it has no worker that fits, or it goes away.
    """
    with _connected(executor) as client:
        from distributed import as_completed

        own = version("adaptune")
        futures = {
            client.submit(_alone, work, item, own, pure=False): number
            for number, item in items.items()
        }
        for future in as_completed(futures, loop=client.loop):
            try:
                error = future.exception()
            except (CancelledError, asyncio.CancelledError) as gone:
                raise ValueError(
                    f"--executor {executor}: the scheduler went away; run the command again when "
                    "it is back, since finished runs are not run again"
                ) from gone
            yield futures[future], future.result() if error is None else _told(error)


def count_workers(executor: str) -> int:
    """Count the workers of a scheduler.

    Raises:
        ValueError: If there is no such scheduler, or it has no worker that fits.
    """
    with _connected(executor) as client:
        return len(client.nthreads())


@contextmanager
def _connected(executor: str) -> Iterator[Any]:
    """Connect to a scheduler whose workers all fit."""
    place = executor.removeprefix(DASK)
    if place == executor or not place.rpartition(":")[2].isdecimal():
        raise ValueError(f"--executor is dask://HOST:PORT, and got {executor}")
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"{executor} needs a package: pip install 'adaptune[dask]'") from error
    try:
        client = Client(f"tcp://{place}", timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ValueError(
            f"--executor {executor}: no scheduler answers there within {PATIENCE:.0f} seconds: "
            "start one with dask scheduler, or look at host, port and firewall"
        ) from error
    with client:
        _check(client, executor)
        yield client


def _check(client: Any, executor: str) -> None:
    """Refuse workers that would give other results than this process.

    Raises:
        ValueError: If there are such, or none at all.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, TimeoutError) as error:
        raise ValueError(
            f"--executor {executor}: the scheduler has no workers: start some with dask worker "
            f"{executor.removeprefix(DASK)} --nthreads 1"
        ) from error
    many = [name for name, threads in client.nthreads().items() if threads > 1]
    if many:
        raise ValueError(
            f"--executor {executor}: {len(many)} workers run several things at once ({many[0]}): "
            "random numbers belong to a process, so start them with --nthreads 1"
        )
    own = version("adaptune")
    for name, told in client.run(version, "adaptune", on_error="return").items():
        if isinstance(told, Exception):
            raise ValueError(f"--executor {executor}: worker {name} has no adaptune ({told})")
        if told != own:
            raise ValueError(f"--executor {executor}: {_other(name, told, own)}")


def _other(name: str, theirs: str, own: str) -> str:
    return f"worker {name} has adaptune {theirs} and this is {own}: install one version everywhere"


def _alone(work: Callable[[Item], Made], item: Item, wanted: str) -> Made:
    """Work on an item in a worker, one at a time; workers that came later are checked here."""
    own = version("adaptune")
    if own != wanted:
        raise ValueError(_other("that came later", own, wanted))
    with _ONE:
        return work(item)


def _told(error: BaseException) -> Exception:
    if type(error).__name__ == "KilledWorker":
        return ValueError("workers died of it again and again: is there memory?")
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
