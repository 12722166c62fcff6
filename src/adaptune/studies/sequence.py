"""Runs one after the other: each goes on from the network that the last one left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adaptune.data.domains import quietly
from adaptune.report.terminal import Terminal
from adaptune.results.run import RunResults
from adaptune.studies.grid import Cell, Failure, run_cell, spread


@dataclass(frozen=True)
class Chain:
    """Runs of one method and seed, in the order in which they go on from each other."""

    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        first = self.cells[0]
        domains = ", ".join(cell.domain for cell in self.cells)
        return f"{first.name}, seed {first.plan.seed}: {domains}"


def run_chains(
    cells: Sequence[Cell], *, jobs: int, terminal: Terminal, executor: str = ""
) -> tuple[list[RunResults], list[Failure]]:
    """Run cells, those of one name and seed in their order; give results, and what failed.

    Finished runs are not run again. What fails ends its own chain alone: of that nothing counts,
    and what was finished of it is kept for the next time.
    """
    own: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        alone = jobs == 1 and not executor
        cell = cell if alone else replace(cell, data=cell.data.tracked(quietly))
        own.setdefault((cell.name, cell.plan.seed), []).append(cell)
    chains = [Chain(tuple(one)) for one in own.values()]
    made: dict[int, list[RunResults]] = {}
    failures = []
    label = "sequences"
    parts = spread(_run, chains, jobs=jobs, terminal=terminal, label=label, executor=executor)
    for number, done in parts:
        if isinstance(done, Failure):
            failures.append(done)
        else:
            made[number] = done
    return [one for number in sorted(made) for one in made[number]], failures


def _run(chain: Chain, terminal: Terminal) -> list[RunResults]:
    found = []
    for cell in chain.cells:
        terminal.say(str(cell))
        found.append(run_cell(cell, terminal))
    return found
