"""`adaptune methods`: what there is."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from adaptune.catalog import Entry, catalog, tasks


def run(words: Sequence[str]) -> None:
    """List the methods, or say all of some, as they describe themselves.

    Raises:
        ValueError: If there is no method of a name.
    """
    parser = ArgumentParser(
        prog="adaptune methods",
        description="List the methods by the data that they learn from, or say all of those named.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="methods to say all of")
    parser.add_argument("--options", action="store_true", help="say all of every method")
    parser.add_argument(  # as in commands.options, which imports torch
        "--json", action="store_true", help="print results as JSON on stdout"
    )
    parser.add_argument("--task", choices=[*tasks()], help="list what works on this task alone")
    given = parser.parse_args(list(words))
    entries = _chosen(catalog(), given.names)
    entries = [one for one in entries if given.task in (None, *one.tasks)]
    if given.json:
        told = {one.pop("name"): one for one in map(asdict, entries)}
        print(json.dumps({"methods": told}, indent=1))
        return
    console = Console(markup=False, highlight=False)
    if given.names or given.options:
        for one in entries:
            _describe(console, one)
        return
    _list(console, entries)


def _chosen(entries: list[Entry], names: Sequence[str]) -> list[Entry]:
    """Give the entries that are named; all if none is."""
    known = {one.name: one for one in entries}
    for name in names:
        if name not in known:
            raise ValueError(f"no method {name!r}: there are {', '.join(known)}")
    return [known[name] for name in names] or entries


def _list(console: Console, entries: Sequence[Entry]) -> None:
    """Give a line or more for each method below its setting: on what it works, what it does."""
    width = max((len(one.name) for one in entries), default=0)
    for setting in dict.fromkeys(one.setting for one in entries):
        console.print(setting)
        table = Table.grid(padding=(0, 2))
        table.add_column(width=width)
        table.add_column(width=len("classification"))
        table.add_column()
        for one in (one for one in entries if one.setting == setting):
            table.add_row(one.name, one.works_on, one.summary)
        console.print(Padding.indent(table, 2))
    console.print("\nadaptune methods NAME says all of one: its paper and its options.")


def _describe(console: Console, one: Entry) -> None:
    """Say all of a method."""
    console.print(f"{one.name} ({one.setting})")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in one.options.items():
        meaning = one.meanings.get(name, "").replace("``", "")
        table.add_row(f"--{name.replace('_', '-')}", str(value), meaning)
    told = (one.summary, f"paper: {one.paper}", f"works on: {one.works_on}")
    for line in (*told, "options and their defaults:"):
        console.print(Padding.indent(line, 2))
    console.print(Padding.indent(table, 4))
