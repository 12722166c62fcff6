"""Memory of the CPU that is freed and asked for again and again, as activations are."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Names of two settings of glibc's allocator, in its ``malloc.h``."""

KEPT = 2**31 - 1
USUAL = 1 << 25
"""What the first setting grows to by itself; the second follows at twice that."""

_depth = 0


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next tensor of the process, for a while.

    By glibc's own rules every tensor above 32 MiB is fetched from the system page by page, which
    costs more than most layers do. Where there is another allocator this does nothing. All threads
    of the process keep theirs until the outermost such block ends; then memory goes back as it is
    freed.

    >>> with keep_freed_memory():
    ...     _ = bytes(1)
    """
    global _depth
    _depth += 1
    try:
        if _depth == 1:
            _set(KEPT, KEPT)
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            _set(USUAL, 2 * USUAL)


def _set(mapped: int, free: int) -> None:
    """Set from how many bytes on memory is mapped by itself, and how much may lie free."""
    try:
        library = ctypes.CDLL(None)
        if library.gnu_get_libc_version:
            library.mallopt(MMAP_THRESHOLD, mapped)
            library.mallopt(TRIM_THRESHOLD, free)
    except (AttributeError, OSError, TypeError):
        return  # another allocator, which has rules of its own
