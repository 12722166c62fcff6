"""`adaptune demo`: the main job on real weights and real images, offline."""

from __future__ import annotations

from collections.abc import Sequence

from adaptune.commands import compare
from adaptune.commands.choices import MOST_SEEDS
from adaptune.commands.options import Parser, add_json, make_folder
from adaptune.data.demo import build_demo
from adaptune.report.terminal import Terminal
from adaptune.runtime.limits import MOST


def run(words: Sequence[str]) -> None:
    """Draw two domains, compare ft, lp-ft and daft on them, and say where the page is."""
    parser = Parser(
        prog="adaptune demo",
        description="Fine-tune EfficientNet-Lite0 on 30 classes of Twemoji with ft, lp-ft and "
        "daft, and test each on Twemoji and on OpenMoji's drawings of the same emoji.",
    )
    parser.add_argument("--out", type=str, default="demo", help="the folder that all goes to")
    parser.add_argument(
        "--seeds", type=int, default=1, between=(1, MOST_SEEDS), help="how many seeds"
    )
    parser.add_argument(
        "--epochs", type=int, default=12, between=(1, MOST), help="passes over the training images"
    )
    add_json(parser)
    given = parser.parse_args(list(words))
    folder = make_folder(given.out)
    with Terminal() as terminal:
        domains = build_demo(folder / "data", track=terminal.track)
        terminal.say(f"domains {domains['twemoji']} (ID), {domains['openmoji']} (OOD)")
    rest = [f"--{name}={getattr(given, name)}" for name in ("seeds", "epochs")]
    compare.run(
        [
            str(domains["twemoji"]),
            f"--ood=openmoji={domains['openmoji']}",
            *("--image-size=64", "--crop=1.0", "--test-share=0.25", *rest),
            f"--out={folder / 'comparison'}",
            *(["--json"] if given.json else []),
        ]
    )
