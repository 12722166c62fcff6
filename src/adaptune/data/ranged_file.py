"""Remote objects as files that are read by ranges, for readers that look at little of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from adaptune.data.listing import Part
from adaptune.data.object_cache import ObjectCache, object_cache
from adaptune.data.objects import fetch
from adaptune.data.words import address_of

BLOCKS = (2**16, 2**23)
"""Bytes of the shortest and the longest range that is asked for."""

HEADERS = -1
"""What stands for the first byte where what is kept is no range, but what was asked for."""

PIECE = struct.Struct("<QI")


class RangedFile(io.RawIOBase):
    """An object as a file to read: in ranges that double while they touch each other.

    So headers that lie far apart are read alone, and those close together in few requests. What
    was asked for is in `pieces`, so that it can be kept and answered again without the store.
    """

    def __init__(self, whole: Part, pieces: dict[int, bytes]) -> None:
        self.whole, self.pieces = whole, pieces
        self.at, self.begin, self.block = 0, 0, b""
        self.step = BLOCKS[0]

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that any place can be gone to."""
        return True

    def tell(self) -> int:
        """Give the place that is read next."""
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self.at = offset + (0, self.at, self.whole.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Read bytes, of the pieces that there are or of the store."""
        size = max(0, min(len(buffer), self.whole.size - self.at))
        known = self.pieces.get(self.at, b"")
        if len(known) < size:
            known = self._fetched(self.at, size)
            self.pieces[self.at] = known
        buffer[:size] = known[:size]
        self.at += size
        return size

    def _fetched(self, at: int, size: int) -> bytes:
        end = self.begin + len(self.block)
        if at < self.begin or at + size > end:
            near = self.block and self.begin <= at <= end
            self.step = min(2 * self.step, BLOCKS[1]) if near else BLOCKS[0]
            length = min(max(size, self.step), self.whole.size - at)
            self.block = fetch(replace(self.whole, offset=at, size=length))
            self.begin = at
        return self.block[at - self.begin : at - self.begin + size]


@contextmanager
def opened_by_ranges(whole: Part) -> Iterator[RangedFile]:
    """Open an object; what the block reads of it is kept, so that next time no store is asked.

    Raises:
        OSError: If the object is gone, has changed, or its store gives no answer.
    """
    kept = object_cache()
    key = ObjectCache.key(address_of(whole.file), whole.version, HEADERS, whole.size)
    pieces = _unpacked(kept.get(key) or b"")
    known = len(pieces)
    yield RangedFile(whole, pieces)
    if len(pieces) > known:
        kept.put(key, _packed(pieces))


def _packed(pieces: Mapping[int, bytes]) -> bytes:
    """Write pieces as bytes.

    >>> _unpacked(_packed({512: b"photo"}))
    {512: b'photo'}
    """
    told = (PIECE.pack(place, len(piece)) + piece for place, piece in pieces.items())
    return zlib.compress(b"".join(told), 1)


def _unpacked(raw: bytes) -> dict[int, bytes]:
    told, pieces, at = zlib.decompress(raw) if raw else b"", dict[int, bytes](), 0
    while at < len(told):
        place, size = PIECE.unpack_from(told, at)
        at += PIECE.size + size
        pieces[place] = told[at - size : at]
    return pieces
