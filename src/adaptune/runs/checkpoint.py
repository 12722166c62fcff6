"""What resuming needs, on disk: the newest two checkpoints of a run, each known to be whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from adaptune.runtime.files import write_atomically

FORMAT = 1
KEPT = 2
NAME = re.compile(r"step-(\d+)\.([0-9a-f]{16})\.safetensors")


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint that was read, its file, and the newer ones that were damaged."""

    state: dict[str, Any]
    file: Path
    damaged: tuple[Path, ...]


class Checkpoints:
    """The checkpoints in a folder: tensors as safetensors, the rest as JSON, no code in either.

    A file's name says which step it was taken at and the first 16 digits of its SHA-256, so a file
    that is not whole shows. The one before is kept until the new one was read back.

    >>> import tempfile, torch
    >>> kept = Checkpoints(Path(tempfile.mkdtemp()) / "checkpoints")
    >>> kept.newest() is None
    True
    >>> file = kept.save(3, {"weight": torch.ones(2), "epoch": 1})
    >>> kept.newest().state
    {'weight': tensor([1., 1.]), 'epoch': 1}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state at a step; then let go of all but it and the one before.

        Raises:
            OSError: If it could not be written, or not be read back as it was written; those
                before are still there then.
        """
        content = pack(state)
        file = self.folder / f"step-{step:09}.{_digest(content)}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
        if not _whole(file):
            raise OSError(f"{file} cannot be read back as it was written: is the disk all right?")
        for ahead in [one for one in self._files() if one.name > file.name]:
            ahead.unlink(missing_ok=True)  # damaged, or it would have been gone on from
        self.let_go(KEPT)
        for half in self.folder.glob("*.new"):
            half.unlink(missing_ok=True)
        return file

    def newest(self) -> FoundCheckpoint | None:
        """Read the newest checkpoint that is whole, or None where there is none.

        Raises:
            ValueError: If there are files and none is whole, or if a newer adaptune wrote it.
        """
        damaged: list[Path] = []
        for file in self._files():
            if _whole(file):
                return FoundCheckpoint(unpack(file.read_bytes(), file), file, tuple(damaged))
            damaged.append(file)
        if damaged:
            raise ValueError(
                f"no checkpoint in {self.folder} is whole ({len(damaged)} damaged): the run cannot "
                "go on; start it again in another --out"
            )
        return None

    def let_go(self, keep: int = 0) -> None:
        """Let go of all but the newest ``keep``."""
        for file in self._files()[keep:]:
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """List the checkpoints, the newest first."""
        known = [file for file in self.folder.glob("step-*") if NAME.fullmatch(file.name)]
        return sorted(known, key=lambda file: (file.name, file.stat().st_mtime), reverse=True)


def pack(state: Mapping[str, Any]) -> bytes:
    """Write a tree of tensors, numbers and words as bytes; keys keep whether they are numbers."""
    tensors: dict[str, Tensor] = {}
    tree = _packed(state, "", tensors)
    return save(tensors, metadata={"tree": json.dumps(tree), "format": str(FORMAT)})


def unpack(content: bytes, file: Path) -> dict[str, Any]:
    """Read what `pack` wrote; ``file`` is named in errors.

    Raises:
        ValueError: If it is something else, or if a newer adaptune wrote it.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        said = json.loads(content[8 : 8 + length])["__metadata__"]
        form, tree = int(said["format"]), json.loads(said["tree"])
        tensors = load(content)
    except (ValueError, KeyError, SafetensorError) as error:
        raise ValueError(f"{file} is no checkpoint of adaptune ({error})") from error
    if form > FORMAT:
        raise ValueError(
            f"{file} has format {form} and this adaptune reads up to {FORMAT}: upgrade adaptune, "
            "or start the run again in another --out"
        )
    state: dict[str, Any] = _unpacked(tree, tensors)
    return state


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _whole(file: Path) -> bool:
    """Tell whether a file holds what its name says."""
    name = NAME.fullmatch(file.name)
    with file.open("rb") as opened:
        return (
            name is not None and hashlib.file_digest(opened, "sha256").hexdigest()[:16] == name[2]
        )


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Take the tensors out of a tree, leaving their names."""
    if isinstance(value, Tensor):
        # A copy, because safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [
            [key, _packed(one, f"{name}/{key}" if name else str(key), tensors)]
            for key, one in value.items()
        ]
        return {"dict": items}
    if isinstance(value, list | tuple):
        return {"list": [_packed(one, f"{name}/{i}", tensors) for i, one in enumerate(value)]}
    return {"value": value}


def _unpacked(tree: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(one, tensors) for key, one in content}
    if kind == "list":
        return [_unpacked(one, tensors) for one in content]
    return content
