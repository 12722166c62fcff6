"""Ctrl-C and SIGTERM: finish the step, keep the work, stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The process was asked to stop, by ``number``; what was done is kept."""

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = number, kept

    def __str__(self) -> str:
        name = "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name
        return f"stopped by {name}{self.kept and ': '}{self.kept}"

    @property
    def code(self) -> int:
        """The exit code that shells expect: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


class Waiting(Stopped):
    """The run stopped until people have done what it asks for in ``kept``; no signal did it."""

    def __str__(self) -> str:
        return f"stopped: {self.kept}"

    @property
    def code(self) -> int:
        """What sysexits.h calls a failure that passes: try again later."""
        return 75


class Signals:
    """Whether the process was asked to stop.

    Within `held` a first signal is remembered, in ``caught``, for the holder to act on; a second
    one, or one outside, stops at once.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._held = False

    @contextmanager
    def listening(self) -> Iterator[Signals]:
        """Listen to signals for a while; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {one: signal.signal(one, self._heard) for one in CAUGHT}
        try:
            yield self
        finally:
            for one, handler in before.items():
                signal.signal(one, handler or signal.SIG_DFL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put signals off for a while."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self._held or self.caught:
            raise Stopped(number)
        self.caught = number


def ignore_signals(*_: object) -> None:
    """Leave signals to the process that this one works for: what loader workers begin with."""
    for one in CAUGHT:
        signal.signal(one, signal.SIG_IGN)
