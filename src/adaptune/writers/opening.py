"""Writers by the words that name them."""

from __future__ import annotations

from pathlib import Path

import torch

from adaptune.writers.address import AddressWriter
from adaptune.writers.folder import FolderWriter
from adaptune.writers.recorded import RecordedWriter
from adaptune.writers.writer import Writer, Writing

KINDS = "hf:FOLDER, http://HOST:PORT/v1 or recorded:FILE"
"""What names a writer."""


def open_writer(
    name: str, writing: Writing | None = None, device: torch.device | str = "cpu"
) -> Writer:
    """Open what answers prompts: a local folder, an address of OpenAI's form, or a record.

    Raises:
        ValueError: If it is none of these, or cannot be opened.
    """
    how = writing or Writing()
    kind, _, rest = name.partition(":")
    if kind == "hf" and rest:
        return FolderWriter(Path(rest), how, device)
    if kind in ("http", "https"):
        return AddressWriter(name, how)
    if kind == "recorded" and rest:
        return RecordedWriter(Path(rest))
    raise ValueError(f"a writer is {KINDS}: got {name!r}")
