"""Options and data of commands where examples are texts, or have texts as partners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.options import COLUMNS, read_config
from adaptune.data.files import image_files
from adaptune.data.listing import Example
from adaptune.data.readers.pairs import PairSource
from adaptune.data.readers.tags import TagSource
from adaptune.data.readers.texts import TextSource, text_examples
from adaptune.networks.joint import Joint
from adaptune.networks.network import Look, Network, TextInput, TokenInput
from adaptune.networks.text import reads_texts
from adaptune.runs.folder import best_network
from adaptune.runs.setup import Setup
from adaptune.runtime.wording import speak_of_texts
from adaptune.tasks import TASKS

Columns = Namespace | Mapping[str, Any]
"""The options that name columns, or what a run was told of them."""


def lister_of(given: Namespace) -> TextSource | PairSource | None:
    """Give what lists texts, or pairs, where that is what the arguments name."""
    start, kind = given.get("from"), TASKS[given.get("task", Setup.task)].labels
    if start:
        net = Network.load(best_network(Path(start)))
        return _lister(columns_of(given, Path(start)), net.preprocess, pairs=kind == "text")
    reads = reads_texts(str(given.get("backbone") or ""))
    if kind == "text":
        return pair_source(given, texts=reads)
    return text_source(given, tags=kind == "tags") if reads else None


def lister_for(net: Network, given: Columns, run: Path) -> TextSource | PairSource | None:
    """Give what lists texts, or pairs, where a network reads these, by columns as `columns_of`."""
    return _lister(columns_of(given, run), net.preprocess, pairs=isinstance(net.head, Joint))


def texts_for(net: Network, given: Columns, run: Path) -> TextSource | None:
    """Give what lists texts, where a network reads these, by columns as `columns_of`.

    Raises:
        ValueError: If the network matches pairs, so that there are no classes to answer with.
    """
    if isinstance(net.head, Joint):
        raise ValueError(
            f"{run} matches pairs and knows no classes: adaptune retrieve {run} QUERIES "
            "--collection DOCUMENTS finds partners, adaptune evaluate scores pairs"
        )
    found = lister_for(net, given, run)
    return found if isinstance(found, TextSource) else None


def plain_lister(net: Network, given: Columns, run: Path) -> TextSource | None:
    """Give what lists texts that have classes, whatever a network was trained on."""
    found = _lister(columns_of(given, run), net.preprocess, pairs=False)
    return found if isinstance(found, TextSource) else None


def columns_of(given: Columns, run: Path) -> dict[str, Any]:
    """Say how columns are called: as in a run unless they are named."""
    config = run / "config.yaml"
    known = read_config(config) if config.is_file() else {}
    return {one: given.get(one) or known.get(one) for one in COLUMNS.values()}


def examples_named(
    words: Sequence[str], texts: TextSource | None
) -> tuple[list[Example], list[str]]:
    """List the texts, or else the images, of files and folders; and notes.

    Raises:
        ValueError: If there is none.
    """
    if texts is not None:
        found, notes = text_examples(words, texts)
    else:
        files, notes = image_files(words)
        found = [Example(file, "") for file in files]
    if not found:
        raise ValueError("; ".join([f"no image files in {', '.join(words)}", *notes]))
    return found, notes


def text_source(given: Columns, *, tags: bool = False) -> TextSource:
    """Give what lists texts of the columns that are named; sentences are of texts from then on.

    With ``tags`` their words have labels, not they themselves.
    """
    speak_of_texts()
    kind = TagSource if tags else TextSource
    named = {what: given.get(COLUMNS[what]) for what in ("text", "label")}
    return kind(**{what: column for what, column in named.items() if column})


def pair_source(given: Columns, *, texts: bool) -> PairSource:
    """Give what lists pairs of the columns that are named; sentences are of what has partners."""
    if texts:
        speak_of_texts()
    own = given.get(COLUMNS["text"]) or "text"
    return PairSource(own if texts else "", given.get(COLUMNS["partner"]) or "")


def _lister(given: Columns, look: Look, *, pairs: bool) -> TextSource | PairSource | None:
    texts = isinstance(look, TextInput)
    if pairs:
        return pair_source(given, texts=texts)
    return text_source(given, tags=isinstance(look, TokenInput)) if texts else None
