"""What people see while they wait: bars with the time left, a line an epoch, tables at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from adaptune.engine.loop import Epoch
from adaptune.results.epoch import EpochMetrics
from adaptune.results.retrieved import retrieved, retrieved_by
from adaptune.results.run import RunResults
from adaptune.results.score import Measure, Scores
from adaptune.results.summary import Interval, MethodSummary
from adaptune.runtime.wording import worded

Item = TypeVar("Item")

NAMED = 5
"""Files that could not be read and are named on the terminal; the report names all."""


class Terminal:
    """Shows progress and messages on stderr; ``quiet`` shows neither.

    One bar is for the pass over data at hand, one above it for the epochs of the run. Both vanish
    when they are done, and neither appears where stderr is no terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )

    def __enter__(self) -> Terminal:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def track(self, items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
        """Pass items on behind a bar."""
        task = self.progress.add_task(label, total=total)
        try:
            for item in items:
                yield item
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)

    def epochs(self, epochs: Iterable[Epoch], total: int, done: int = 0) -> Iterator[Epoch]:
        """Pass epochs on behind a bar, of which ``done`` are past; number 0 comes before them."""
        task = self.progress.add_task("epochs", total=total + 1, completed=done and done + 1)
        try:
            for epoch in epochs:
                yield epoch
                self.progress.update(task, completed=epoch.number + epoch.whole)
        finally:
            self.progress.remove_task(task)

    def epoch(self, line: EpochMetrics, measure: Measure) -> None:
        """Say in one line how an epoch went."""
        known = ("epoch", measure.key("val"), "seconds")
        numbers = line.to_dict(measure).items()
        terms = "".join(f"  {key} {value:.4f}" for key, value in numbers if key not in known)
        val = "" if line.val is None else f"  val {measure.text(line.val)}"
        self.say(f"epoch {line.epoch:3}{terms}{val}  {line.seconds:.0f} s")

    def say(self, message: str) -> None:
        """Print one message."""
        self.console.print(worded(message), markup=False, soft_wrap=True)

    def results(self, runs: Sequence[RunResults], summary: Sequence[MethodSummary]) -> None:
        """Print what runs came to: scores with 95% intervals, and distortion."""
        measure, first = runs[0].measure, summary[0]
        several = len(first.domains) > 1
        columns = ["method", *(["ID"] if first.id else []), *(["mean OOD"] if several else [])]
        columns += [*first.domains, "distortion", "seconds"]
        rows = []
        for line in summary:
            cells = [*([line.id] if first.id else []), *([line.ood] if several else [])]
            cells += [line.domains[name] for name in first.domains]
            reached = [cell_text(cell, measure) for cell in cells if cell]
            moved = "" if line.distortion is None else f"{line.distortion:.3f}"
            rows.append([line.method, *reached, moved, f"{line.seconds:.0f}"])
        self.table(f"{measure.title} (95% interval)", columns, rows)
        if table := retrieved_by(runs):
            self.table(*table)
        self.open_sets({line.method: line.open_set for line in summary})
        for test, value in runs[0].before.items():
            how = "zero-shot" if runs[0].words else "before training"
            self.say(f"{test} {how}: {measure.text(value)}")
        self._unasked(runs)
        self._problems(runs)

    def _unasked(self, runs: Sequence[RunResults]) -> None:
        """Say what was reached on images whose labels nobody gave."""
        for run in runs:
            if run.unasked:
                was, now = map(run.measure.text, (run.unasked.before, run.unasked.after))
                told = f"{run.unasked.count} images whose labels nobody gave: {was} before, {now}"
                self.say(f"{run.method}, seed {run.seed}, {told} after")

    def _problems(self, runs: Sequence[RunResults]) -> None:
        """Name what could not be read."""
        problems = {p: reason for run in runs for p, reason in run.data.problems.items()}
        for path, reason in list(problems.items())[:NAMED]:
            self.say(f"left out {path}: {reason}")
        if len(problems) > NAMED:
            self.say(f"left out {len(problems) - NAMED} more files: results.json names them all")

    def scores(self, name: str, scores: Mapping[str, Scores]) -> None:
        """Print what a network reaches on each test set, and on open sets."""
        measure = next((one.main.measure for one in scores.values()), Measure())
        rows = []
        for test, one in scores.items():
            value, low, high = map(measure.number, (one.main.value, one.main.low, one.main.high))
            rows.append([test, value, f"{low}-{high}", str(one.count)])
        columns = ["test set", measure.name, "interval", "images"]
        self.table(f"{measure.title} (95% interval)", columns, rows)
        if table := retrieved(scores):
            self.table(*table)
        opened = {test: one.detail.get("open_set") for test, one in scores.items()}
        self.open_sets({name: {test: one for test, one in opened.items() if one}})

    def open_sets(self, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Print what networks reached on open sets, by network and test set; nothing of none."""
        keys = ("known", "unknown", "h")
        named = {
            f"{name}, {test}": one for name, tests in found.items() for test, one in tests.items()
        }
        rows = [[name, *(f"{scores[key]:.1f}" for key in keys)] for name, scores in named.items()]
        if rows:
            columns = ["", "OS* (mean of known classes)", "UNK (unknown images)", "H-score"]
            self.table("open sets in percent; H-score: harmonic mean of both", columns, rows)
        for name, scores in named.items():
            if advice := _on_threshold(scores):
                self.say(f"note: {name}: {advice}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; the first column is text, the others are numbers."""
        table = Table(title=worded(title), title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(worded(column), justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


def cell_text(cell: Interval, measure: Measure) -> str:
    """Write a mean with its interval, whose bounds are told in whole points where it has points.

    >>> cell_text(Interval(50.04, 45.6, 54.4), Measure())
    '50.0 (46-54)'
    """
    low, high = (
        f"{value:.0f}" if measure.unit == "percent" else measure.number(value)
        for value in (cell.low, cell.high)
    )
    return f"{measure.number(cell.mean)} ({low}-{high})"


def _on_threshold(scores: Mapping[str, float]) -> str:
    """Say what to do where the threshold tells nothing apart; nothing where it does.

    >>> _on_threshold({"known": 40.0, "unknown": 0.0})
    'no unknown image was called unknown: a lower --unknown-above calls more of them so'
    """
    if not scores["unknown"]:
        return "no unknown image was called unknown: a lower --unknown-above calls more of them so"
    if not scores["known"] and scores["unknown"] == 100:
        return (
            "every unknown image was called unknown and no known one was right, so the network is "
            "sure of nothing: train it for longer, or give a higher --unknown-above"
        )
    return ""
