"""`adaptune push`: a finished run as a folder, or a repository, for others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptune.commands.options import Parser
from adaptune.report.terminal import Terminal
from adaptune.runs.sharing import push_run


def run(words: Sequence[str]) -> None:
    """Write network, settings, results and model card where others find them."""
    parser = Parser(
        prog="adaptune push",
        description="Write a run's best network, its settings, results and a model card into a "
        "folder, or a repository of the Hugging Face hub.",
    )
    parser.add_argument("run", type=str, help="a run's folder, or one with a saved network")
    parser.add_argument("place", type=str, help="a new folder, or hf:OWNER/NAME")
    parser.add_argument(
        "--public", action="store_true", help="let all see a repository that is made for it"
    )
    given = parser.parse_args(list(words))
    where = push_run(Path(given.run), given.place, public=given.public)
    with Terminal() as terminal:
        terminal.say(f"{given.run} is in {where}; others get it by adaptune pull")
