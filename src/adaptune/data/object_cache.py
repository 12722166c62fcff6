"""Pieces of remote objects, kept on this machine's disk so that none is fetched twice."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import struct
import warnings
import zlib
from hashlib import blake2b
from pathlib import Path

from adaptune.data.cache import DISK_LEFT, cache_home
from adaptune.data.names import printable
from adaptune.runtime.files import write_atomically

FOLDER, BOUND = "ADAPTUNE_OBJECTS", "ADAPTUNE_OBJECTS_GB"
"""Environment variables: where pieces are kept, and how many GB of them. Both are a machine's."""

GIGABYTES = 50.0
"""How much is kept unless the environment says otherwise."""

KEPT = 0.9
"""The share of the bound that is left when the oldest pieces were deleted."""

LOOKS = 64
"""How often a process looks at the folder's size while it writes as much as the bound."""


class ObjectCache:
    """Pieces by key, a file each; the longest unread go when there are more than ``bound`` bytes.

    A file begins with a checksum: one that is damaged counts as not there. Files are written whole
    or not at all, and any number of processes may read and write beside each other.

    >>> ObjectCache.key("s3://photos/1.jpg", "a", 0, 9)[:8]
    '0cfc0e75'
    """

    head = struct.Struct("<4sI")
    mark = b"adob"

    def __init__(self, folder: Path, bound: float) -> None:
        self.folder, self.bound = folder, bound
        self.written = 0.0
        self.closed = False

    @staticmethod
    def key(address: str, version: str, offset: int, size: int) -> str:
        """Name a piece by its object, the version of that, its first byte and how many it has."""
        said = repr((address, version, offset, size)).encode(errors="surrogateescape")
        return blake2b(said, digest_size=16).hexdigest()

    def file(self, key: str) -> Path:
        """Say where a piece is kept."""
        return self.folder / key[:2] / key[2:]

    def get(self, key: str) -> bytes | None:
        """Give a piece that is there and whole."""
        file = self.file(key)
        try:
            raw = file.read_bytes()
            os.utime(file)  # so that the longest unread is known
        except OSError:
            return None
        if len(raw) < self.head.size:
            return None
        mark, checksum = self.head.unpack_from(raw)
        piece = raw[self.head.size :]
        return piece if mark == self.mark and zlib.crc32(piece) == checksum else None

    def put(self, key: str, piece: bytes) -> None:
        """Keep a piece, unless the disk is nearly full or cannot be written."""
        if self.closed:
            return
        file = self.file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if self._due(len(piece)):
                self._make_room()
            head = self.head.pack(self.mark, zlib.crc32(piece))
            write_atomically(file, head + piece, forced=False)
        except OSError as error:
            self.closed = True
            warnings.warn(
                f"pieces of remote objects are not kept in {printable(self.folder)} any more and "
                f"are fetched at every visit ({error}): make room, or name another folder by "
                f"{FOLDER}",
                stacklevel=2,
            )

    def _due(self, size: int) -> bool:
        """Tell whether it is time to look how much there is."""
        first = not self.written
        self.written += size
        if first or self.written > self.bound / LOOKS:
            self.written = 1.0
            return True
        return False

    def _make_room(self) -> None:
        """Delete the longest unread pieces, down to a share of the bound.

        Raises:
            OSError: If the disk is nearly full all the same.
        """
        files = []
        for file in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process made room
                status = file.stat()
                files.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files) if total > self.bound else ():
            file.unlink(missing_ok=True)
            total -= size
            if total <= KEPT * self.bound:
                break
        disk, _, free = shutil.disk_usage(self.folder)
        if free < DISK_LEFT * disk:
            raise OSError(f"less than {DISK_LEFT:.0%} of the disk is free")


@functools.cache
def object_cache() -> ObjectCache:
    """Give what this process keeps pieces in, as the environment says.

    Raises:
        ValueError: If the bound is no number above 0.
    """
    said = os.environ.get(BOUND, str(GIGABYTES))
    try:
        bound = float(said)
    except ValueError:
        bound = 0.0
    if not bound > 0:
        raise ValueError(f"{BOUND} is {said!r}, and should be how many GB to keep, such as 50")
    folder = os.environ.get(FOLDER)
    return ObjectCache(Path(folder) if folder else cache_home() / "objects", bound * 1e9)
