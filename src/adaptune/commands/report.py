"""`adaptune report`: the page of a run or a comparison, written again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import UndefinedError

from adaptune.commands.options import Parser, add_json, print_json
from adaptune.report.page import write_report


def run(words: Sequence[str]) -> None:
    """Write the page."""
    parser = Parser(prog="adaptune report", description="Write report.html of a folder again.")
    parser.add_argument("folder", type=str, help="the folder of a run or a comparison")
    add_json(parser)
    given = parser.parse_args(list(words))
    folder = Path(given.folder)
    try:
        page = write_report(folder)
    except (LookupError, TypeError, AttributeError, UndefinedError, ValueError) as error:
        if not (folder / "results.json").is_file():
            raise
        raise ValueError(
            f"{folder} holds results that are damaged or of another version "
            f"({type(error).__name__}: {error}): take them from a copy, or run the command again"
        ) from error
    if given.json:
        print_json({"report": page})
    else:
        print(page)
