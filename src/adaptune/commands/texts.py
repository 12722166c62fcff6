"""Options and data of commands where examples are texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from adaptune.commands.options import COLUMNS, read_config
from adaptune.data.files import image_files
from adaptune.data.listing import Example
from adaptune.data.readers.tags import TagSource
from adaptune.data.readers.texts import TextSource, text_examples
from adaptune.networks.network import Network, TextInput, TokenInput
from adaptune.networks.text import reads_texts
from adaptune.runs.folder import best_network
from adaptune.runs.setup import Setup
from adaptune.runtime.wording import speak_of_texts
from adaptune.tasks import TASKS


def texts_of(given: Namespace) -> TextSource | None:
    """Give what lists texts, where the network that the arguments name reads these."""
    start = given.get("from")
    if start:
        return texts_for(Network.load(best_network(Path(start))), given, Path(start))
    tags = TASKS[given.get("task", Setup.task)].labels == "tags"
    reads = reads_texts(str(given.get("backbone") or ""))
    return text_source(given, tags=tags) if reads else None


def texts_for(net: Network, given: Mapping[str, Any] | Namespace, run: Path) -> TextSource | None:
    """Give what lists texts, where a network reads these, by columns of its run unless others are.

    Sentences are of texts from then on.
    """
    if not isinstance(net.preprocess, TextInput):
        return None
    config = run / "config.yaml"
    known = read_config(config) if config.is_file() else {}
    columns = {one: given.get(one) or known.get(one) for one in COLUMNS.values()}
    return text_source(columns, tags=isinstance(net.preprocess, TokenInput))


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


def text_source(given: Namespace | Mapping[str, Any], *, tags: bool = False) -> TextSource:
    """Give what lists texts of the columns that are named; sentences are of texts from then on.

    With ``tags`` their words have labels, not they themselves.
    """
    speak_of_texts()
    kind = TagSource if tags else TextSource
    return kind(**{what: given[one] for what, one in COLUMNS.items() if given.get(one)})
