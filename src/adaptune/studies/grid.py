"""Many runs: the cells of a comparison, one after the other or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from adaptune.data.domains import DomainData, quietly
from adaptune.engine.plan import Plan
from adaptune.methods import METHODS
from adaptune.report.terminal import Terminal
from adaptune.results.run import RunResults, read_results
from adaptune.runs.experiment import experiment
from adaptune.runs.folder import Run
from adaptune.runs.setup import Setup
from adaptune.runs.testing import Baseline
from adaptune.runtime.files import to_json
from adaptune.studies.cluster import work_on_cluster

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Cell:
    """One run of a comparison: what `experiment` needs, and the text of its ``config.yaml``.

    ``name`` is what tables call it, ``domain`` the domain that it is trained on.
    """

    folder: Path
    name: str
    domain: str
    method: str
    options: Mapping[str, Any]
    data: DomainData
    setting: Setup
    plan: Plan
    config: str

    def __str__(self) -> str:
        return f"{self.name}, {self.domain}, seed {self.plan.seed}"

    def finished(self) -> RunResults | None:
        """Give the results of a run that ended with these very settings."""
        out = Run(self.folder)
        if self.begun() and out.results.is_file():
            # The folder may have moved since, or the run ended before it was told where it stands.
            done = read_results(out.results)
            return replace(done, config=str(out.config), domain=self.domain, base=self.method)
        return None

    def begun(self) -> bool:
        """Tell whether a run with these very settings was begun."""
        config = self.folder / "config.yaml"
        return config.is_file() and config.read_text() == self.config


@dataclass(frozen=True)
class Failure:
    """A cell that came to no result, and why."""

    cell: str
    reason: str


_BASELINE: dict[str, Baseline] = {}
"""What the network reaches on test sets before training, by setting and domain, in each process."""


def run_cell(cell: Cell, terminal: Terminal) -> RunResults:
    """Run one cell, unless it was run before."""
    known = cell.finished()
    if known is not None:
        return known
    out, begun = Run(cell.folder), cell.begun()
    seed = cell.plan.seed if cell.setting.weights == "none" else "any"  # random weights differ
    key = f"{cell.setting} {cell.domain} {sorted(cell.data.ood)} {seed}"
    with out.locked():
        results = experiment(
            out,
            METHODS[cell.method],
            cell.options,
            cell.data,
            cell.setting,
            cell.plan,
            name=cell.name,
            terminal=terminal,
            config=cell.config,
            baseline=_BASELINE.setdefault(key, {}),
            resume=begun,
        )
        results = replace(results, domain=cell.domain, base=cell.method)
        out.save_results(results)
    return RunResults.from_dict(to_json(results))  # the same whether it was run or read


def run_cells(
    cells: Sequence[Cell], *, jobs: int, terminal: Terminal, executor: str = ""
) -> tuple[list[RunResults], list[Failure]]:
    """Run cells; give results in their order, and what failed. One that fails stops no other.

    Cells of one domain whose configs are the same are one run, whatever their names. Those that an
    ``executor`` runs have folders and data where all its workers find them; see `spread`.
    """
    twins: dict[tuple[str, str], list[int]] = {}
    for number, cell in enumerate(cells):
        twins.setdefault((cell.domain, cell.config), []).append(number)
    once = [
        cell if jobs == 1 and not executor else replace(cell, data=cell.data.tracked(quietly))
        for cell in (cells[number] for number, *_ in twins.values())
    ]
    made: dict[int, RunResults] = {}
    failures = []
    same = list(twins.values())
    parts = spread(run_cell, once, jobs=jobs, terminal=terminal, label="runs", executor=executor)
    for which, done in parts:
        if isinstance(done, Failure):
            failures.append(done)
            continue
        first, *others = same[which]
        made[first] = done
        made |= {number: _copied(done, cells[first], cells[number]) for number in others}
    return [made[number] for number in sorted(made)], failures


def _copied(done: RunResults, cell: Cell, twin: Cell) -> RunResults:
    """Give a cell the results of another with the same settings, under its own name."""
    out = Run(twin.folder)
    if twin.finished() is None:
        own = shutil.ignore_patterns("checkpoints", ".lock")
        shutil.copytree(cell.folder, twin.folder, ignore=own, dirs_exist_ok=True)
    results = replace(done, method=twin.name, config=str(out.config))
    out.save_results(results)
    return results


def spread(
    work: Callable[[Item, Terminal], Made],
    items: Sequence[Item],
    *,
    jobs: int,
    terminal: Terminal,
    label: str,
    executor: str = "",
) -> Iterator[tuple[int, Made | Failure]]:
    """Do ``work`` on every item, in this process, in ``jobs`` others or by an ``executor``.

    Each is given as it ends. An executor is ``dask://HOST:PORT``, a scheduler whose workers take
    the items, however many they are.

    ``work`` must live in a module, and with several jobs it and the items are sent to processes
    that share the machine's cores between them.
    """
    _BASELINE.clear()  # other data may have come under the same names
    if jobs == 1 and not executor:
        for number, item in enumerate(items):
            terminal.say(f"{number + 1} of {len(items)}: {item}")
            yield number, _said(terminal, item, _attempt(work, item, terminal))
        return
    left = dict(enumerate(items))
    parts = _clustered(work, left, executor) if executor else _pooled(work, left, jobs, terminal)
    for number, done in terminal.track(parts, label, len(items)):
        terminal.say(f"{len(items) - len(left)} of {len(items)} done: {items[number]}")
        yield number, _said(terminal, items[number], done)


def _clustered(
    work: Callable[[Item, Terminal], Made], left: dict[int, Item], executor: str
) -> Iterator[tuple[int, Made | Failure]]:
    """Work on what is ``left``, by number, by an executor, taking out what is done."""
    for number, done in work_on_cluster(partial(_elsewhere, work), dict(left), executor):
        item = left.pop(number)
        if isinstance(done, Exception):
            yield number, Failure(str(item), f"{type(done).__name__}: {done}")
        else:
            yield number, done


def _pooled(
    work: Callable[[Item, Terminal], Made], left: dict[int, Item], jobs: int, terminal: Terminal
) -> Iterator[tuple[int, Made | Failure]]:
    """Work on what is ``left``, by number, taking out what is done.

    Where a process is killed, most often for want of memory, the rest goes on with half as many;
    one alone works in order, so what it was killed over is known and given up.
    """
    while left:
        killed = False
        for number, done in _in_pool(work, left, jobs):
            killed = isinstance(done, BrokenProcessPool)
            if killed:
                break
            del left[number]
            yield number, done  # type: ignore[misc]
        if killed and jobs == 1:
            number = next(iter(left))
            failure = Failure(str(left.pop(number)), "its process was killed: is there memory?")
            yield number, failure
        elif killed:
            jobs = jobs // 2
            terminal.say(f"a process was killed, perhaps for want of memory: going on with {jobs}")


def _in_pool(
    work: Callable[[Item, Terminal], Made], left: Mapping[int, Item], jobs: int
) -> Iterator[tuple[int, Made | Failure | BrokenProcessPool]]:
    """Work on items in ``jobs`` processes; after one is killed every item gives that error."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _start, (threads, os.getpid())) as pool:
        waiting: dict[Future[Any], int] = {}
        try:
            for number, item in left.items():
                waiting[pool.submit(_elsewhere, work, item)] = number
            for future in as_completed(waiting):
                error = future.exception()
                broken = isinstance(error, BrokenProcessPool)
                yield waiting[future], error if broken else future.result()  # type: ignore[misc]
        except BrokenProcessPool as error:  # while items were handed over
            yield next(iter(left)), error
        finally:
            pool.shutdown(cancel_futures=True)


def _start(threads: int, parent: int) -> None:
    """Take this process's share of the cores; end with the process that it works for."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # what NumPy and scikit-learn use

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # nobody is left to hear of an error

    threading.Thread(target=watch, daemon=True).start()


def _elsewhere(work: Callable[[Item, Terminal], Made], item: Item) -> Made | Failure:
    return _attempt(work, item, Terminal(quiet=True))


def _attempt(
    work: Callable[[Item, Terminal], Made], item: Item, terminal: Terminal
) -> Made | Failure:
    try:
        return work(item, terminal)
    except Exception as error:  # whatever went wrong in one must not lose the others
        return Failure(str(item), f"{type(error).__name__}: {error}")


def _said(terminal: Terminal, item: object, done: Made | Failure) -> Made | Failure:
    if isinstance(done, Failure):
        terminal.say(f"failed: {item}: {done.reason}")
    return done
