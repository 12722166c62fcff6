"""`adaptune write`: a table of texts like a few examples, by a language model."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import torch

from adaptune.commands.devices import fabric_on
from adaptune.commands.options import Parser, add_columns, add_json, print_json
from adaptune.commands.outputs import writable_file
from adaptune.commands.texts import text_source
from adaptune.commands.writers import add_writer, first_of, keeping, open_asked
from adaptune.data.inputs.text import TextIds
from adaptune.data.readers.texts import text_examples
from adaptune.engine.batches import to_device
from adaptune.networks.network import Network, TextInput
from adaptune.report.terminal import Terminal
from adaptune.runs.folder import best_network
from adaptune.runtime.files import write_text
from adaptune.runtime.limits import MOST
from adaptune.writers.texts import EXAMPLES, TEMPLATE, gather, prompt_like

REAL, WRITTEN = "real", "written"
"""Labels of what a run learns that filters written texts."""


class RunAnswers:
    """Labels texts with a finished run, one at a time, so that none depends on others.

    Raises:
        ValueError: If the run reads no texts, or does not know the labels that are ``needed``.
    """

    def __init__(self, run: str, device: str, needed: Sequence[str] = ()) -> None:
        net = Network.load(best_network(Path(run)))
        if not isinstance(net.preprocess, TextInput):
            raise ValueError(f"{run} reads no texts: give a run of texts")
        if missing := [one for one in needed if one not in net.classes]:
            raise ValueError(
                f"{run} does not tell what is {missing[0]}, it knows {', '.join(net.classes)}: "
                "train one on a table of adaptune write --with-real"
            )
        self.fabric = fabric_on(device)
        self.ids = TextIds(net.preprocess)
        self.net = net.eval()
        to_device(self.net, self.fabric)

    @torch.no_grad()
    def __call__(self, text: str) -> str:
        """Label a text."""
        ids = self.ids.given(text).unsqueeze(0).to(self.fabric.device)
        return self.net.classes[int(self.net(ids).argmax(1))]


def run(words: Sequence[str]) -> None:
    """Ask for texts until there are enough, and write those that are new and kept."""
    given = _parser().parse_args(list(words))
    if given.with_real and (given.label or given.keep):
        raise ValueError("--with-real is for a run that --keep asks later: leave out one of them")
    found, notes = text_examples([given.examples], text_source(given))
    texts = [one.text for one in found if one.text]
    if not texts:
        raise ValueError(f"{given.examples} holds no texts: give a table of a few")
    judge = RunAnswers(given.keep, given.device, (REAL, WRITTEN)) if given.keep else None
    label = RunAnswers(given.label, given.device) if given.label else lambda text: WRITTEN
    template, most = _template(given.template), given.prompts or 10 * given.count
    how = {"seed": given.seed, "template": template}
    out = writable_file(given.out, "texts.csv")
    ask = open_asked(given, out)
    with Terminal() as terminal, keeping(ask):
        for note in notes:
            terminal.say(f"note: {note}")
        prompts = (prompt_like(texts, given.shots, at, **how) for at in range(most))
        new = gather(
            terminal.track(prompts, "asking", most),
            ask,
            count=given.count,
            known=texts,
            keep=lambda text: "" if judge is None or judge(text) == REAL else "were rejected",
        )
        rows = [(text, REAL) for text in texts if given.with_real]
        rows += [(text, label(text)) for text in new.texts]
        write_text(out, table_of(rows, labelled=given.with_real or bool(given.label)))
        said = "".join(f", {number} {why}" for why, number in new.left.items())
        lost = f", {len(new.problems)} prompts have no answer{first_of(new.problems)}"
        few = f"; {given.count} were asked for: give more --prompts"
        terminal.say(
            f"{len(new.texts)} texts kept{said}{lost * bool(new.problems)}; {ask.asked} asked now"
            f"{few * (len(new.texts) < given.count)}: {out}"
        )
    if given.json:
        print_json({"kept": len(new.texts), "left": new.left, "problems": new.problems, "out": out})


def table_of(rows: Sequence[tuple[str, str]], *, labelled: bool) -> str:
    """Write rows of text and label as a CSV, without the label where there is none.

    >>> table_of([("so good", "pos")], labelled=False).split()
    ['text', 'so', 'good']
    """
    text = StringIO()
    table = csv.writer(text)
    width = 2 if labelled else 1
    table.writerows(row[:width] for row in [("text", "label"), *rows])
    return text.getvalue()


def _template(file: str | None) -> str:
    if not file:
        return TEMPLATE
    try:
        template = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{file} could not be read: {error}") from error
    if EXAMPLES not in template:
        raise ValueError(f"{file} lacks {EXAMPLES}: write it where the examples should stand")
    return template


def _parser() -> Parser:
    parser = Parser(
        prog="adaptune write",
        description="Write texts like those of a table, by a language model, into a table that "
        "runs learn from.",
    )
    parser.add_argument("examples", type=str, help="a table of a few texts, or of many")
    add_writer(parser, "texts.csv", "the table to write: text, and label where there is one")
    parser.set_defaults(temperature=1.0)
    parser.add_argument("--count", type=int, default=100, between=(1, MOST), help="texts to keep")
    parser.add_argument(
        "--shots", type=int, default=5, between=(1, 1000), help="examples in a prompt, drawn anew"
    )
    parser.add_argument(
        "--prompts", type=int, between=(1, MOST), help="prompts at most; by default 10 a text"
    )
    parser.add_argument(
        "--template", type=str, metavar="FILE", help=f"words of the prompt, with {EXAMPLES} in it"
    )
    parser.add_argument(
        "--keep", type=str, metavar="RUN", help=f"keep what this run calls {REAL}, not {WRITTEN}"
    )
    parser.add_argument("--label", type=str, metavar="RUN", help="label texts with this run")
    parser.add_argument(
        "--with-real",
        action="store_true",
        help=f"write the examples too, labelled {REAL} and {WRITTEN}: what a run for --keep learns",
    )
    add_columns(parser)
    add_json(parser)
    return parser
