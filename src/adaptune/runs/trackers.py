"""Trackers: other records that a run's metrics go to, each epoch once."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from adaptune.runs.records import MLflowRecord, Record, WandbRecord
from adaptune.runtime.files import write_text

Line = Mapping[str, Any]

TRACKERS = ("csv", "tensorboard", "wandb", "mlflow")
"""What ``--log`` knows."""


class Tracker(Protocol):
    """Where lines of the metrics go as well."""

    def begin(self, lines: Sequence[Line], config: str, *, anew: bool) -> None:
        """Take up the lines that are there; ``anew`` forgets what another run left."""

    def add(self, line: Line) -> None:
        """Add the line of an epoch."""

    def end(self, *, finished: bool) -> None:
        """Close the record, for now or because the run has finished.

        Raises:
            OSError: If lines could not be delivered.
        """


def tracker_names(words: str) -> list[str]:
    """Read the names of trackers off what ``--log`` says.

    >>> tracker_names("csv, tensorboard,csv")
    ['csv', 'tensorboard']

    Raises:
        ValueError: If there is no such tracker.
    """
    names = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise ValueError(
            f"no tracker is called {', '.join(unknown)}: --log takes {', '.join(TRACKERS)}"
        )
    return names


def open_trackers(names: Sequence[str], folder: Path) -> list[Tracker]:
    """Make the trackers of a run's folder; nothing is written yet.

    Raises:
        ValueError: If one is unknown, or the package that it needs is missing.
    """
    for name in tracker_names(",".join(names)):
        if name != "csv" and importlib.util.find_spec(name) is None:
            raise ValueError(f"--log {name} needs a package: pip install 'adaptune[{name}]'")
    makers: dict[str, Callable[[], Tracker]] = {
        "csv": lambda: RewrittenFiles(
            folder / "csv", "metrics.csv", lambda place: CSVLogger(place, name="", version="")
        ),
        "tensorboard": lambda: RewrittenFiles(
            folder,
            "events.out.tfevents.*",
            # Whoever watches is told to forget what was read from the file before.
            lambda place: TensorBoardLogger(place, name="", version="", purge_step=0),
        ),
        "wandb": lambda: KeptRecord(folder, "wandb", WandbRecord()),
        "mlflow": lambda: KeptRecord(folder, "mlflow", MLflowRecord()),
    }
    return [makers[name]() for name in names]


class RewrittenFiles:
    """Files of one of Fabric's loggers, written anew whenever a run begins or goes on."""

    def __init__(self, folder: Path, files: str, logger: Callable[[Path], Logger]) -> None:
        self.folder, self.files, self.make = folder, files, logger
        self.logger: Logger | None = None

    def begin(self, lines: Sequence[Line], config: str, *, anew: bool) -> None:
        """Write all lines, so that none is there twice and none is missing."""
        for file in self.folder.glob(self.files):
            file.unlink(missing_ok=True)
        self.logger = self.make(self.folder)
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Write one line."""
        if self.logger is not None:
            self.logger.log_metrics(_numbers(line), step=line["epoch"])
            self.logger.save()

    def end(self, *, finished: bool) -> None:
        """Close the files."""
        if self.logger is not None:
            self.logger.finalize("success" if finished else "aborted")


class KeptRecord:
    """A record that is kept elsewhere and cannot be written anew: lines it has are not sent again.

    ``trackers.json`` says which record is the run's and the last epoch that it has. An epoch that
    is trained again after a stop comes to the same, so the line that is there already holds. Lines
    that could not be delivered wait for the next.
    """

    def __init__(self, folder: Path, name: str, record: Record) -> None:
        self.folder, self.name, self.record = folder, name, record
        self.file = folder / "trackers.json"
        self.waiting: list[Line] = []
        self.trouble = ""
        self.begun = False

    def begin(self, lines: Sequence[Line], config: str, *, anew: bool) -> None:
        """Open the run's record, and send what it lacks.

        Raises:
            ValueError: If it cannot be opened.
        """
        own = {} if anew else self._known().get(self.name, {})
        settings = yaml.safe_load(config)
        given = settings if isinstance(settings, dict) else {}
        try:
            number = self.record.open(self.folder, own.get("record", ""), given)
        except Exception as error:  # each tracker has exceptions of its own
            raise ValueError(
                f"{self.name} could not open a record ({error}): log in or choose where it keeps "
                f"records, or leave it out of --log"
            ) from error
        self.last: int = own.get("last", -1)
        self._note(number)
        self.number, self.begun = number, True
        self.waiting = [line for line in lines if line["epoch"] > self.last]
        self._send()

    def add(self, line: Line) -> None:
        """Send a line, unless the record has that epoch."""
        if line["epoch"] > self.last:
            self.waiting.append(line)
            self._send()

    def end(self, *, finished: bool) -> None:
        """Close the record.

        Raises:
            OSError: If lines could not be delivered.
        """
        if not self.begun:
            return
        if self.waiting:
            self._send()
        try:
            self.record.close(finished=finished)
        except Exception as error:
            self.trouble = self.trouble or str(error)
        if self.waiting or self.trouble:
            lacking = ", ".join(str(line["epoch"]) for line in self.waiting)
            raise OSError(
                f"{self.name} may lack the last epochs" + f" ({lacking})" * bool(lacking) + ", "
                f"which are in metrics.jsonl ({self.trouble}): adaptune fit --resume sends them"
            )

    def _send(self) -> None:
        """Send what waits; where that fails, training goes on and the next line tries again."""
        while self.waiting:
            line = self.waiting[0]
            try:
                self.record.send(_numbers(line), line["epoch"])
            except Exception as error:
                self.trouble = str(error)
                return
            self.last = line["epoch"]
            self._note(self.number)
            del self.waiting[0]
        self.trouble = ""

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _note(self, number: str) -> None:
        known = self._known() | {self.name: {"record": number, "last": self.last}}
        write_text(self.file, json.dumps(known, indent=1) + "\n")


def _numbers(line: Line) -> dict[str, float]:
    """Give what is measured of an epoch; what is not finite is None in a line.

    >>> _numbers({"epoch": 1, "task": None, "seconds": 2})
    {'task': nan, 'seconds': 2.0}
    """
    given = {name: value for name, value in line.items() if name != "epoch"}
    return {name: math.nan if value is None else float(value) for name, value in given.items()}
