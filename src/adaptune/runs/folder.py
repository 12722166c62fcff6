"""A run is a folder: its settings, metrics, checkpoint, networks and results."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from adaptune.networks.network import Network
from adaptune.results.answers import Answers
from adaptune.results.run import RunResults
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runs.trackers import open_trackers
from adaptune.runtime.files import read_lines, to_json, write_text
from adaptune.runtime.processes import barrier, is_first


class Run:
    """The folder of one run.

    ``config.yaml`` reproduces it with ``--config``; ``metrics.jsonl`` has a line an epoch; ``best``
    and ``last`` hold networks, ``checkpoints`` what resuming needs; ``results.json``,
    ``answers.json`` (where other domains are tested), ``pictures`` (of masks) and ``report.html``
    are written at the end. ``log`` names trackers that the metrics go to as well. Of several
    processes the first alone writes.

    Raises:
        OSError: If the folder cannot be made.
    """

    def __init__(self, folder: Path, *, log: Sequence[str] = ()) -> None:
        self.trackers = open_trackers(
            log, folder
        )  # what is missing is said before anything is done
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"the folder {folder} cannot be made ({error.strerror}): choose another --out"
            ) from error
        self.folder, self.writes = folder, is_first()
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.results = folder / "results.json"
        self.answers = folder / "answers.json"
        self.pictures = folder / "pictures"
        self.best, self.last = folder / "best", folder / "last"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing into the folder for a while.

        Raises:
            OSError: If another run writes into it, or nobody may.
        """
        if not self.writes:
            yield
            return
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise OSError(
                f"another run is writing into {self.folder}: wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be written to ({error.strerror}): choose another --out"
            ) from error
        try:
            yield
        except BaseException:
            with suppress(OSError):  # of two things that went wrong the first is said
                self._end_trackers(finished=False)
            raise
        else:
            self._end_trackers(finished=True)
        finally:
            lock.release()

    def _end_trackers(self, *, finished: bool) -> None:
        for tracker in self.trackers:
            tracker.end(finished=finished)

    def begin(self, config: str, epoch: int) -> None:
        """Take in a run that nothing can refuse any more: its ``config`` and what is left of it.

        Lines of epochs after ``epoch`` are dropped, since they will be written again; -1 begins
        anew, and lets go of all that another run left.
        """
        if not self.writes:
            return
        kept = [line for line in read_lines(self.metrics) if line["epoch"] <= epoch]
        for tracker in self.trackers:  # first, since they may refuse
            tracker.begin(kept, config, anew=epoch < 0)
        if epoch < 0:
            self.checkpoints.let_go()
            self.results.unlink(missing_ok=True)  # it would make an interrupted run look finished
            self.answers.unlink(missing_ok=True)
            shutil.rmtree(self.pictures, ignore_errors=True)
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        write_text(self.config, config)

    def withdraw(self) -> None:
        """Take away a run that was refused after all, before its first step."""
        if not self.writes:
            return
        self.checkpoints.let_go()
        for file in (self.metrics, self.config):
            file.unlink(missing_ok=True)
        for folder in (self.best, self.last, self.checkpoints.folder):
            shutil.rmtree(folder, ignore_errors=True)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics."""
        if not self.writes:
            return
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(line)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        for tracker in self.trackers:
            tracker.add(to_json(line))

    def save_network(self, net: Network, folder: Path) -> None:
        """Write a network into ``best`` or ``last``."""
        if self.writes:
            net.save(folder)

    def save_checkpoint(self, step: int, state: Mapping[str, Any]) -> None:
        """Write what resuming needs; all processes come together for it."""
        if self.writes:
            self.checkpoints.save(step, state)
        barrier()

    def let_go(self, keep: int = 0) -> None:
        """Let go of all checkpoints but the newest ``keep``."""
        if self.writes:
            self.checkpoints.let_go(keep)

    def save_results(self, results: RunResults) -> None:
        """Write the results, in one step."""
        if self.writes:
            write_text(self.results, json.dumps(to_json(results), indent=1) + "\n")

    def save_picture(self, picture: Image.Image, name: str) -> str:
        """Write a picture, and give its place in the run's folder."""
        file = self.pictures / name
        file.parent.mkdir(exist_ok=True)
        picture.save(file, "JPEG", quality=88, subsampling=0)
        return file.relative_to(self.folder).as_posix()

    def save_answers(self, answers: Answers) -> None:
        """Write what the network answers where other domains are tested, in one step."""
        if self.writes and answers.tests:
            answers.write(self.answers)


def best_network(folder: Path) -> Path:
    """Find the network of a run, or of a folder that is a saved network itself."""
    return folder / "best" if (folder / "best" / "network.json").is_file() else folder
