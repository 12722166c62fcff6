"""`adaptune pull`: what others pushed, as a folder that every command opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptune.commands.options import Parser
from adaptune.commands.outputs import make_folder
from adaptune.report.terminal import Terminal
from adaptune.runs.sharing import pull_run


def run(words: Sequence[str]) -> None:
    """Bring a run into a folder, and see that its network opens."""
    parser = Parser(
        prog="adaptune pull",
        description="Bring a run that was pushed into a folder, which predict, evaluate, export "
        "and fit --from open.",
    )
    parser.add_argument("place", type=str, help="hf:OWNER/NAME, or a folder that was pushed to")
    parser.add_argument("--out", type=str, default="pulled", help="the folder to write into")
    parser.add_argument("--revision", type=str, help="which version of a repository")
    given = parser.parse_args(list(words))
    out: Path = make_folder(given.out)
    net = pull_run(given.place, out, revision=given.revision)
    with Terminal() as terminal:
        terminal.say(f"{out}: {net.origin.name}, {len(net.classes)} classes")
