"""Files that are written whole or not at all, whatever happens to process and machine."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(file: Path, content: bytes, *, forced: bool = True) -> None:
    """Write a file in one step: whoever reads it, after any crash, finds the old or the new one.

    The content goes beside it, is forced to the disk, and takes the name; then the folder is
    forced too. What is not ``forced`` is safe from the end of the process, not of the machine.

    Raises:
        OSError: If there is no room or no right to write; the old file is still there then.
    """
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        _write_new(beside, content, forced)
        os.replace(beside, file)  # noqa: PTH105 - one call, which tests count
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)  # noqa: PTH108 - half a file would take the room of the next
        raise OSError(
            f"{file} could not be written ({error.strerror}): make room or check the disk; what "
            "stood there before is whole"
        ) from error
    if forced:
        _force(file.parent)


def _write_new(file: Path, content: bytes, forced: bool) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(opened, left) :]
        if forced:
            os.fsync(opened)
    finally:
        os.close(opened)


def _force(folder: Path) -> None:
    """Force a folder's names to the disk, where the system can."""
    if os.name == "nt":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a missing file has none, and half a line at the end is none.

    >>> read_lines(Path("no such file"))
    []
    """
    if not file.is_file():
        return []
    *whole, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole if line.strip()]


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step: whoever reads it sees the old or the new one."""
    write_atomically(file, text.encode(errors="backslashreplace"))  # names may be no UTF-8


def to_json(value: Any) -> Any:
    """Turn a value into what JSON can hold; numbers that are not finite become None.

    >>> to_json({"a": (1, Path("b")), "c": float("nan")})
    {'a': [1, 'b'], 'c': None}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    if hasattr(value, "to_dict"):
        return to_json(value.to_dict())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
