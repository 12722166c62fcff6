"""Where studies are kept, opened by one process at a time: databases are made in several steps."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

HEARTBEAT = 60
"""Seconds between signs of life of a trial in a database; after five a trial counts as dead."""

PATIENCE = 60
"""Seconds that a process waits while others write into a database that is a file."""

TRIES = 3
"""Times that a database is opened where another machine makes it in the same moment."""


@contextmanager
def stable_writes() -> Iterator[None]:
    """Say nothing of what optuna calls experimental: signs of life of trials, since 2.9."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextmanager
def open_storage(folder: Path, storage: str | None) -> Iterator[BaseStorage]:
    """Open a storage, making it where there is none; other processes wait until the block ends.

    Args:
        folder: Where the journal lies if there is no other storage.
        storage: The URL of a database, or a journal file.

    Raises:
        ValueError: If there is no such database, or it cannot be opened.
    """
    if storage is not None and "://" in storage:
        try:
            with _alone(storage):
                yield _database(storage)
        except SQLAlchemyError as error:
            raise ValueError(
                f"--storage {storage} cannot be used ({str(error).splitlines()[0]}): give the URL "
                "of a database that is there, such as sqlite:///studies.db, or a journal file"
            ) from error
        return
    file = Path(storage) if storage else folder / "study.journal"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_beside(file)):
        yield JournalStorage(JournalFileBackend(str(file)))


def _alone(url: str) -> FileLock | nullcontext[None]:
    """Lock out who else opens a database: on this machine, or wherever its file is seen."""
    known = make_url(url)
    if known.get_backend_name() != "sqlite":
        name = f"adaptune-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"
        return FileLock(Path(tempfile.gettempdir()) / name)
    if known.database in (None, "", ":memory:"):
        return nullcontext()
    file = Path(str(known.database).removeprefix("file:").partition("?")[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(_beside(file))


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.opening")


def _database(url: str) -> RDBStorage:
    waits = make_url(url).get_backend_name() == "sqlite"
    engine = {"connect_args": {"timeout": PATIENCE}} if waits else {}
    for left in reversed(range(TRIES)):
        try:
            with stable_writes():
                return RDBStorage(
                    url, engine, heartbeat_interval=HEARTBEAT, grace_period=5 * HEARTBEAT
                )
        except (IntegrityError, ProgrammingError):
            if not left:
                raise
    raise AssertionError("the last try gives or raises")
