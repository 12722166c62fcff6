"""Objects of remote stores, by fsspec: listed, read by ranges, asked again when a network fails."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adaptune.data.listing import Part
from adaptune.data.names import printable
from adaptune.data.object_cache import ObjectCache, object_cache
from adaptune.data.sample import UnreadableError
from adaptune.data.words import address_of

Told = TypeVar("Told")

PAUSES = (1.0, 4.0, 15.0)
"""Seconds before a store that failed is asked again; after the last it counts as gone."""

VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created")
"""What stores call that which changes with an object's contents, the surest first."""

NOT_ALLOWED = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
"""Errors of S3's client that asking again does not mend."""

CHANGED = "it is another than when it was listed: start again, so that the store is listed anew"


class UnreachableError(UnreadableError):
    """A store that gives no answer: no fault of the object, so no run goes on without it."""


@dataclass(frozen=True)
class StoredObject:
    """An object as its store lists it; ``version`` changes with its contents."""

    path: Path
    size: int
    version: str

    @property
    def part(self) -> Part:
        """The whole object, as what an example lies in."""
        return Part(self.path, self.path.name, 0, self.size, self.version)


def list_objects(place: Path) -> list[StoredObject]:
    """List what lies below a place, however deep, or the object that it is; none is read.

    Raises:
        ValueError: If a package is missing, or the store gives no answer.
    """
    store, inner = _opened_store(place)

    def ask() -> Mapping[str, Mapping[str, Any]]:
        store.invalidate_cache()
        found: Mapping[str, Mapping[str, Any]] = store.find(inner, detail=True)
        return found

    try:
        found = _patiently(ask, place)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(str(error)) from error
    scheme = address_of(place).partition("://")[0]
    return [
        StoredObject(_path(scheme, name), int(told.get("size") or 0), _version(told))
        for name, told in found.items()
        if not name.endswith("/")
    ]


def read_part(part: Part) -> bytes:
    """Give bytes of an object, as they were kept, or from the store to be kept.

    Raises:
        OSError: If the object is gone, has changed, or its store gives no answer.
    """
    kept = object_cache()
    key = ObjectCache.key(address_of(part.file), part.version, part.offset, part.size)
    piece = kept.get(key)
    if piece is None:
        piece = fetch(part)
        kept.put(key, piece)
    return piece


def fetch(part: Part) -> bytes:
    """Read a range of an object from its store.

    Raises:
        OSError: If the object is gone, has changed, or its store gives no answer.
    """
    if not part.size:
        return b""

    def ask() -> bytes:
        opened = _opened(address_of(part.file), part.version, os.getpid())
        opened.seek(part.offset)
        piece: bytes = opened.read(part.size)
        return piece

    piece = _patiently(ask, part.file)
    if len(piece) != part.size:
        raise UnreadableError(CHANGED)
    return piece


@functools.lru_cache(maxsize=64)
def _opened(address: str, version: str, process: int) -> Any:
    """Open an object for ranges, once in each process; S3 gives them of this version alone."""
    store, inner = _opened_store(Path(address))
    opened = store.open(inner, "rb", cache_type="none")
    details = getattr(opened, "details", None)
    if isinstance(details, Mapping) and _version(details) != version:
        raise UnreadableError(CHANGED)
    return opened


def _opened_store(place: Path) -> tuple[Any, str]:
    """Find the store of a place, and what the place is called there.

    Raises:
        ValueError: If no package knows such stores.
    """
    import fsspec

    address = address_of(place)
    try:
        store, inner = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{printable(address)} is opened by a package ({error}): for s3:// pip install "
            "'adaptune[remote]'"
        ) from error
    return store, inner


def _patiently(call: Callable[[], Told], place: Path) -> Told:
    """Ask a store, and again after pauses where it fails.

    Raises:
        FileNotFoundError: If there is no such object.
        OSError: If it may not be read, or gives no answer.
    """
    address = printable(address_of(place))
    for pause in (*PAUSES, None):
        try:
            return call()
        except (FileNotFoundError, UnreadableError):
            raise
        except Exception as error:  # each store's client raises errors of its own
            if type(error).__name__ == "FileExpired" or "PreconditionFailed" in str(error):
                raise UnreadableError(CHANGED) from error
            if isinstance(error, PermissionError) or type(error).__name__ in NOT_ALLOWED:
                raise UnreachableError(
                    f"{address} may not be read ({error}): give fsspec credentials for it, as its "
                    "store's own tools take them"
                ) from error
            if pause is None:
                raise UnreachableError(
                    f"{address} gave no answer in {len(PAUSES) + 1} tries ({error}): look at the "
                    "network and go on with --resume"
                ) from error
            time.sleep(pause)
    raise AssertionError("the last try gives or raises")


def _path(scheme: str, name: str) -> Path:
    return Path(f"{scheme}:/{name.partition('://')[2] or name.lstrip('/')}")


def _version(told: Mapping[str, Any]) -> str:
    said = next((told[key] for key in VERSIONS if told.get(key)), "")
    return f"{said} {told.get('size')}"
