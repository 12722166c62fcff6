"""What people see while they wait: bars with the time left, a line an epoch, tables at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

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

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Say in one line how an epoch went."""
        known = ("epoch", "val_accuracy", "seconds")
        terms = "".join(f"  {key} {value:.4f}" for key, value in line.items() if key not in known)
        val = f"  val {line['val_accuracy']:.1f}%" if "val_accuracy" in line else ""
        self.say(f"epoch {line['epoch']:3}{terms}{val}  {line['seconds']:.0f} s")

    def say(self, message: str) -> None:
        """Print one message."""
        self.console.print(message, markup=False, soft_wrap=True)

    def results(
        self, runs: Sequence[Mapping[str, Any]], summary: Sequence[Mapping[str, Any]]
    ) -> None:
        """Print what runs came to: accuracies in percent with 95% intervals, and distortion."""
        others = list(summary[0]["domains"])
        several = len(others) > 1
        home = ["ID"] if summary[0]["id"] else []
        columns = ["method", *home, *(["mean OOD"] if several else []), *others]
        columns += ["distortion", "seconds"]
        rows = []
        for line in summary:
            cells = [*([line["id"]] if home else []), *([line["ood"]] if several else [])]
            cells += [line["domains"][name] for name in others]
            percents = [f"{c['mean']:.1f} ({c['low']:.0f}-{c['high']:.0f})" for c in cells]
            moved = "" if line["distortion"] is None else f"{line['distortion']:.3f}"
            rows.append([line["method"], *percents, moved, f"{line['seconds']:.0f}"])
        self.table("accuracy in percent (95% interval)", columns, rows)
        self.open_sets({line["method"]: line.get("open_set", {}) for line in summary})
        for test, accuracy in runs[0].get("before", {}).items():
            self.say(f"{test} before training: {accuracy:.1f}%")
        for run in (one for one in runs if "unasked" in one):
            told = "{count} images whose labels nobody gave: {before:.1f}% before, {accuracy:.1f}%"
            self.say(
                f"{run['method']}, seed {run['seed']}, {told.format_map(run['unasked'])} after"
            )
        problems = {p: reason for run in runs for p, reason in run["data"]["problems"].items()}
        for path, reason in list(problems.items())[:NAMED]:
            self.say(f"left out {path}: {reason}")
        if len(problems) > NAMED:
            self.say(f"left out {len(problems) - NAMED} more files: results.json names them all")

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
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


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
