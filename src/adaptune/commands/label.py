"""`adaptune label`: answer what a run asks, in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptune.commands.options import Parser, add_port
from adaptune.report.terminal import Terminal
from adaptune.serving.server import need_server, serve


def run(words: Sequence[str]) -> None:
    """Serve the page of a run's questions until Ctrl-C."""
    parser = Parser(
        prog="adaptune label",
        description="Answer what a run of a method that asks for labels waits for, on a page that "
        "this machine alone can open. Each answer is in the run's questions.csv before the next "
        "image is shown.",
    )
    parser.add_argument("run", type=str, help="the folder of a run that waits for labels")
    add_port(parser)
    given = parser.parse_args(list(words))
    need_server()
    from adaptune.serving.labelling import MOST, Desk, labelling_app

    desk = Desk(Path(given.run))
    app = labelling_app(desk)
    with Terminal() as terminal:
        serve(app, port=given.port, most=MOST, say=terminal.say)
        terminal.say(desk.words())
