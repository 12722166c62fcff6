"""Where commands write: room is made, and what cannot be is refused, before the work is done."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: str) -> Path:
    """Make the folder that results go to.

    Raises:
        OSError: If it cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} cannot be made ({error.strerror}): choose another --out") from error
    return path


def writable_file(name: str, such_as: str) -> Path:
    """Make room for a file that is to be written, with the folders that it lies in.

    Raises:
        ValueError: If there is a folder of that name.
        OSError: If it cannot be written.
    """
    file = Path(name)
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file to write with --out, such as {such_as}")
    folder = make_folder(str(file.parent))
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise OSError(f"{file} cannot be written to: choose another --out, or give yourself rights")
    return file
