"""Options of commands that ask a language model, and prompts asked one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import Namespace

from adaptune.commands.devices import add_device, fabric_on
from adaptune.commands.options import Parser
from adaptune.commands.parser import record_of
from adaptune.writers.opening import KINDS, open_writer
from adaptune.writers.recorded import Numbered, Recorder
from adaptune.writers.writer import Writing


def add_writer(parser: Parser, out: str, told: str, kinds: str = KINDS) -> None:
    """Let a command be told who writes and how, where to write, and where answers are kept."""
    parser.add_argument("--writer", type=str, required=True, metavar="WRITER", help=kinds)
    parser.add_argument("--out", type=str, default=out, help=told)
    parser.add_argument(
        "--record",
        type=str,
        metavar="FILE",
        help="where each answer is kept as it comes, so that the same command goes on without "
        "asking twice; by default beside --out, as NAME.record.jsonl",
    )
    parser.add_class_arguments(Writing)
    add_device(parser)


def open_asked(given: Namespace, out: Path) -> Recorder | Numbered:
    """Open who answers, with the record beside; a record that answers needs no other.

    Raises:
        ValueError: If there is no such writer, or the record is of another.
    """
    how = record_of(Writing, given)
    if given.writer.startswith("recorded:"):
        return Numbered(open_writer(given.writer, how))
    file = Path(given.record or out.with_suffix(".record.jsonl"))
    by = {"writer": given.writer, **how.describe()}
    return Recorder(open_writer(given.writer, how, fabric_on(given.device).device), file, by)


@contextmanager
def keeping(ask: Recorder | Numbered) -> Iterator[None]:
    """Where no more answers come, say that those that came are kept."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not isinstance(ask, Recorder) or not ask.file.is_file():
            raise
        said = f"{error}; {ask.file} keeps what was answered, and the same command goes on there"
        raise (OSError if isinstance(error, OSError) else ValueError)(said) from error


def first_of(problems: Iterable[str]) -> str:
    """Say the first of several problems, if there are any."""
    return next((f", such as: {one}" for one in problems), "")
