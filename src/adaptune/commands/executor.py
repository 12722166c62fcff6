"""Who does the work of a comparison or a search, where it is not this machine alone."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from adaptune.commands.config import config_of
from adaptune.commands.parser import Parser

PLACES = ("data", "from", "weights", "ood", "source", "target", "labels", "label_table")
"""Options that name files, which other machines find by whole paths."""


def add_executor(parser: Parser) -> None:
    """Let a command hand its runs to workers."""
    parser.add_argument(
        "--executor",
        type=str,
        default="",
        metavar="dask://HOST:PORT",
        help="a dask scheduler whose workers do the runs instead, one each at a time; data and "
        "--out lie where all of them find them under the same path",
    )


def found_by_workers(given: Namespace) -> Namespace:
    """Give arguments whose places can be found from any folder.

    Raises:
        ValueError: If they also ask for processes of this machine.
    """
    if given.jobs > 1:
        raise ValueError(
            "--executor hands runs to its own workers and --jobs starts processes here: give one"
        )
    whole = config_of(given, leave_out=())
    found = given.clone()
    for name in PLACES:
        if given.get(name):
            value = whole[name]
            found[name] = str(value) if isinstance(value, Path) else value
    found["out"] = str(Path(given.out).absolute())
    return found
