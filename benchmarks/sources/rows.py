"""Pictures from memory and from array files, as they are or changed, served like image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from adaptune.data.file_rows import FileRows
from adaptune.data.inputs.image import ImageInput, read_image
from adaptune.data.listing import Example, Shares, split_position
from adaptune.data.sample import Sample, Unreadable, seeded
from adaptune.networks.network import Preprocess
from adaptune.types import Split

Change = Callable[[Tensor], Tensor]
"""What happens to a picture, uint8 (3, H, W), before the network's transform sees it."""


class Pixels(Protocol):
    """Pictures by row, each uint8 (3, H, W)."""

    def __len__(self) -> int: ...
    def __getitem__(self, row: int) -> Tensor: ...


@dataclass(frozen=True)
class Files:
    """Image files, decoded when they are asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return read_image(self.paths[row])


@dataclass(frozen=True)
class Records:
    """A raw file of records: ``skip`` bytes, then a picture, channel by channel.

    ``columns`` says that each channel is stored column by column. Nothing stays open, so it goes
    to other processes as the path that it is.
    """

    path: Path
    side: int
    skip: int = 0
    columns: bool = False

    @property
    def size(self) -> int:
        """Bytes in a record."""
        return self.skip + 3 * self.side**2

    def __len__(self) -> int:
        return self.path.stat().st_size // self.size

    def __getitem__(self, row: int) -> Tensor:
        start = row * self.size + self.skip
        raw = np.fromfile(self.path, np.uint8, 3 * self.side**2, offset=start)
        picture = torch.from_numpy(raw.reshape(3, self.side, self.side))
        return picture.transpose(1, 2).contiguous() if self.columns else picture


@dataclass(frozen=True)
class ArrayFile:
    """Rows ``start`` to ``stop`` of a numpy file of pictures, uint8 (N, H, W, 3)."""

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, row: int) -> Tensor:
        stored = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(np.array(stored[self.start + row])).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Joined:
    """Pictures of several parts, one after the other."""

    parts: tuple[Pixels, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, row: int) -> Tensor:
        for part in self.parts:
            if row < len(part):
                return part[row]
            row -= len(part)
        raise IndexError(f"there are {len(self)} pictures")


class Pictures(FileRows):
    """Pictures under labels, served like image files.

    A change may draw random numbers: they depend on the row alone, so a picture is changed in the
    same way at every visit, in every process and at every strength of the same change.

    Args:
        pixels: Where pictures come from.
        labels: The label of each row of ``pixels``, as a number.
        rows: Which rows of ``pixels`` are served, all by default.
        change: What happens to each picture.
    """

    def __init__(
        self,
        pixels: Pixels,
        labels: Sequence[int],
        rows: Sequence[int] | None = None,
        change: Change | None = None,
    ) -> None:
        self.pixels, self.change = pixels, change
        self.rows = list(range(len(labels)) if rows is None else rows)
        self.labels = [int(labels[row]) for row in self.rows]
        files = pixels.paths if isinstance(pixels, Files) else ()
        self.examples = tuple(Example(files[row], "") for row in self.rows if files)
        self.input = ImageInput(Preprocess())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unreadable:
        row, seed = key
        try:
            picture = self.picture(row)
        except (OSError, ValueError) as error:
            name = str(self.paths[row]) if self.paths else f"row {row}"
            return Unreadable(name, str(error) or type(error).__name__)
        with seeded(seed):
            return self.input.given(picture), torch.tensor(self.labels[row]), row

    def picture(self, row: int) -> Tensor:
        """Give a picture as it is before the network's transform, uint8 (3, H, W)."""
        picture = self.pixels[self.rows[row]]
        if self.change is None:
            return picture
        with seeded(self.rows[row]):
            return self.change(picture)


def divided(name: str, rows: Sequence[int], shares: Shares) -> dict[Split, list[int]]:
    """Divide numbered rows by a stable hash of name and number, as files are by their names.

    >>> parts = divided("digits", range(100), Shares(0.1, 0.2))
    >>> sorted(row for part in parts.values() for row in part) == list(range(100))
    True
    """
    parts: dict[Split, list[int]] = {"train": [], "val": [], "test": []}
    for row in rows:
        place = split_position(f"{name}-{row}")
        part: Split = "train"
        if place < shares.val_share:
            part = "val"
        elif place < shares.val_share + shares.test_share:
            part = "test"
        parts[part].append(row)
    return parts


def given(data: Path | None, layout: str, *needed: str) -> Path:
    """Give the folder of data, which has to hold what is needed.

    Raises:
        ValueError: If it was not given, or lacks something.
    """
    if data is None:
        raise ValueError(
            f"these data are not downloaded: pass the folder where you keep them, with {layout}"
        )
    lacking = [name for name in needed if not (data / name).exists()]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise ValueError(
            f"{data} lacks {', '.join(lacking[:3])}{more}: expected a folder with {layout}"
        )
    return data


def arrays(path: Path) -> np.ndarray[Any, Any]:
    """Open a numpy file without reading it; objects in it, which could be code, are an error."""
    opened: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return opened
