"""`adaptune demo`: the main job on real weights and real images, offline."""

from __future__ import annotations

import os
from collections.abc import Sequence

from adaptune.commands import compare
from adaptune.commands.choices import MOST_JOBS, MOST_SEEDS
from adaptune.commands.options import Parser, add_json, make_folder
from adaptune.data.demo import build_demo, build_tests
from adaptune.report.terminal import Terminal
from adaptune.runtime.limits import MOST

JOBS = 2
"""Runs at a time where there are as many cores: faster than one run on all of them."""


def run(words: Sequence[str]) -> None:
    """Draw the domains, compare ft, lp-ft and daft on them, and say what that decides."""
    parser = Parser(
        prog="adaptune demo",
        description="Fine-tune EfficientNet-Lite0 on 30 classes of emoji with ft, lp-ft and daft: "
        "on Twemoji's drawings, tested on OpenMoji's of other emoji, and the other way round. Both "
        "are tested on OpenMoji's lines without colours, and on worn pictures, too.",
    )
    parser.add_argument("--out", type=str, default="demo", help="the folder that all goes to")
    parser.add_argument(
        "--seeds", type=int, default=1, between=(1, MOST_SEEDS), help="how many seeds"
    )
    parser.add_argument(
        "--epochs", type=int, default=10, between=(1, MOST), help="passes over the training images"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(JOBS, os.cpu_count() or 1),
        between=(1, MOST_JOBS),
        help="runs at a time, each in a process",
    )
    add_json(parser)
    given = parser.parse_args(list(words))
    folder = make_folder(given.out) / "data"
    with Terminal() as terminal:
        domains = build_demo(folder, track=terminal.track)
        tests = build_tests(folder, domains, track=terminal.track)
        terminal.say(f"trained on in turn: {', '.join(domains)}; tested on too: {', '.join(tests)}")
    rest = [f"--{name}={getattr(given, name)}" for name in ("seeds", "epochs", "jobs")]
    compare.run(
        [
            str(folder),
            f"--domains={','.join(domains)}",
            *("--image-size=64", "--crop=1.0", "--test-share=0.25", *rest),
            f"--out={folder.parent / 'comparison'}",
            *(["--json"] if given.json else []),
        ]
    )
