"""Decoded images, kept in memory or on disk so that no file is decoded twice."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from adaptune.runtime.files import write_atomically

Cache = Literal["none", "ram", "disk"]

Pixels = NDArray[np.uint8]
"""An image (H, W, 3), in the order of bytes that decoding gives: resizing may depend on it.

A mask is (H, W, 1)."""

Place = tuple[Path, int, str]
"""Where an image lies: its file, its first byte there, and the version of a remote object."""

Fresh = tuple[str, Pixels]
"""An image that was decoded and waits to be kept, under its key."""

VERSIONS = ("1", PIL.__version__, torchvision.__version__, torch.__version__)
"""What may change the pixels of the same file."""

SHARE = 0.5
"""The share of the memory that may be filled."""

LEFT = 0.2
"""The share of the memory that stays free."""

DISK_LEFT = 0.05
"""The share of the disk that stays free."""

EVERY = 2**24
"""Bytes that are kept before it is looked again how much room there is."""


class Store(ABC):
    """Decoded images by key.

    Workers only look; what they decode they hand over to the process that they read for, which
    alone keeps, knows how much there is, and says once why it keeps no more.
    """

    kind: Cache

    def __init__(self) -> None:
        self.fresh: list[Fresh] = []
        self.kept = self.look_at = 0
        self.full = False

    def __reduce__(self) -> Any:
        return store_of, (self.kind,)  # what another process keeps, if it keeps any

    @abstractmethod
    def get(self, key: str) -> Pixels | None:
        """Give what is kept under a key, if that is whole."""

    @abstractmethod
    def put(self, key: str, pixels: Pixels) -> None:
        """Keep an image."""

    @abstractmethod
    def lack(self) -> str:
        """Say what there is too little of, if that is so."""

    def found(self, place: Place, made: str, read: Callable[[], Tensor]) -> Tensor:
        """Give an image (3, H, W), or a mask (1, H, W), as it was kept, or read it to be kept.

        Args:
            place: Where it lies.
            made: What was made of it.
            read: Reads and makes it.
        """
        try:
            key = key_of(*place, made)
        except OSError:
            return read()  # which says what is wrong with the file
        pixels = self.get(key)
        if pixels is not None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
        image = read()
        if not self.full:
            self.fresh.append((key, image.permute(1, 2, 0).contiguous().numpy()))
        return image

    def handed_over(self) -> list[Fresh]:
        """Give what was decoded since it was last asked for."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def keep(self, fresh: Sequence[Fresh]) -> None:
        """Keep images while there is room."""
        for key, pixels in () if self.full else fresh:
            try:
                why = self._lack_by_now()
                if not why:
                    self.put(key, pixels)
            except OSError as error:
                why = str(error)
            if why:
                self.full = True
                warnings.warn(
                    f"--cache {self.kind} keeps no more images after {self.kept / 2**20:.0f} MB, "
                    f"and the others are decoded at every visit: {why}",
                    stacklevel=2,
                )
                return
            self.kept += pixels.nbytes

    def _lack_by_now(self) -> str:
        if self.kept < self.look_at:
            return ""
        self.look_at = self.kept + EVERY
        return self.lack()


class NoCache(Store):
    """Keeps nothing."""

    kind = "none"

    def found(self, place: Place, made: str, read: Callable[[], Tensor]) -> Tensor:
        """Read an image."""
        return read()

    def get(self, key: str) -> Pixels | None:
        """Give nothing."""
        return None

    def put(self, key: str, pixels: Pixels) -> None:
        """Do nothing."""

    def lack(self) -> str:
        """Lack nothing."""
        return ""


class MemoryCache(Store):
    """Keeps images in this process; workers that are forked from it see them without a copy."""

    kind = "ram"

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, Pixels] = {}

    def get(self, key: str) -> Pixels | None:
        """Give what is kept under a key."""
        return self.images.get(key)

    def put(self, key: str, pixels: Pixels) -> None:
        """Keep an image."""
        self.images[key] = pixels

    def lack(self) -> str:
        """Say so where half the memory is filled, or less than a fifth of it is free."""
        allowed, free = memory_bytes()
        if self.kept > SHARE * allowed:
            return f"they fill {SHARE:.0%} of the memory (--cache disk would keep all)"
        if free < LEFT:
            return f"less than {LEFT:.0%} of the memory is free (--cache disk would keep all)"
        return ""


class DiskCache(Store):
    """Keeps images in a folder, for all processes and later runs; a file of its own for each.

    A file holds height, width and a checksum before the pixels; one that is damaged counts as not
    there, and is written again.
    """

    kind = "disk"
    head = struct.Struct("<4sIII")
    mark = b"adpx"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def file(self, key: str) -> Path:
        """Say where an image is kept."""
        return self.folder / key[:2] / key[2:]

    def get(self, key: str) -> Pixels | None:
        """Give what is kept under a key, if that is whole."""
        try:
            raw = bytearray(self.file(key).read_bytes())
        except OSError:
            return None
        if len(raw) < self.head.size:
            return None
        mark, height, width, checksum = self.head.unpack_from(raw)
        pixels = memoryview(raw)[self.head.size :]
        whole = mark == self.mark and len(pixels) in (height * width, 3 * height * width)
        if not whole or not pixels or zlib.crc32(pixels) != checksum:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(height, width, -1)

    def put(self, key: str, pixels: Pixels) -> None:
        """Keep an image."""
        file, raw = self.file(key), pixels.tobytes()
        file.parent.mkdir(parents=True, exist_ok=True)
        head = self.head.pack(self.mark, *pixels.shape[:2], zlib.crc32(raw))
        write_atomically(file, head + raw, forced=False)  # after a power cut the checksum tells

    def lack(self) -> str:
        """Say so where the disk is nearly full."""
        self.folder.mkdir(parents=True, exist_ok=True)
        total, _, free = shutil.disk_usage(self.folder)
        near = free < DISK_LEFT * total
        return f"less than {DISK_LEFT:.0%} of the disk of {self.folder} is free" if near else ""


@functools.cache
def store_of(kind: Cache) -> Store:
    """Give what this process keeps images in, the same for all its data and runs.

    >>> store_of("ram") is store_of("ram"), store_of("none").kind
    (True, 'none')
    """
    if kind == "disk":
        return DiskCache(cache_home() / "images")
    return MemoryCache() if kind == "ram" else NoCache()


def cache_home() -> Path:
    """Give the folder below which this machine's disk caches lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adaptune"


def key_of(file: Path, offset: int, version: str, made: str) -> str:
    """Name an image by its file, the size and times of that, and what was made of it.

    Of a remote object a ``version`` stands for size and times.

    Raises:
        OSError: If there is no such file.

    >>> here = Path(__file__)
    >>> key_of(here, 0, "", "small") == key_of(here, 0, "", "small") != key_of(here, 1, "", "small")
    True
    """
    if version:
        told = repr((str(file), version, offset, made, *VERSIONS))
        return blake2b(told.encode(errors="surrogateescape"), digest_size=16).hexdigest()
    status = file.stat()
    said = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, offset, made, *VERSIONS)
    name = os.fsencode(os.path.abspath(file))  # noqa: PTH100 - Path.absolute leaves .. in
    return blake2b(name + repr(said).encode(), digest_size=16).hexdigest()


def memory_bytes() -> tuple[int, float]:
    """Give the bytes of memory that this process may use, and the share of the machine's left.

    Where the system does not say, it is taken to have 4 GB, all of it free.

    >>> 0 <= memory_bytes()[1] <= 1
    True
    """
    allowed, free = 2**32, 1.0
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        allowed, free = 1024 * known["MemTotal"], known["MemAvailable"] / known["MemTotal"]
        group = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        allowed = min(allowed, int(group)) if group.isdecimal() else allowed
    except (OSError, KeyError, ValueError):
        pass
    return allowed, free
