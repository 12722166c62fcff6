"""A run is a folder: its settings, metrics, checkpoint, networks and results."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from adaptune.networks.network import Network
from adaptune.results.answers import Answers
from adaptune.results.run import RunResults
from adaptune.runs.checkpoint import Checkpoints
from adaptune.runtime.files import read_lines, to_json, write_text
from adaptune.runtime.processes import barrier, is_first


class Run:
    """The folder of one run.

    ``config.yaml`` reproduces it with ``--config``; ``metrics.jsonl`` has a line an epoch; ``best``
    and ``last`` hold networks, ``checkpoints`` what resuming needs; ``results.json``,
    ``answers.json`` (where other domains are tested), ``pictures`` (of masks) and ``report.html``
    are written at the end. Of several processes the first alone writes.

    Raises:
        OSError: If the folder cannot be made.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
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
        self.tensorboard, self.events = tensorboard, None
        if tensorboard:
            _event_writer()  # that it is missing is said before anything is done

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
        finally:
            lock.release()

    def begin(self, config: str, epoch: int) -> None:
        """Take in a run that nothing can refuse any more: its ``config`` and what is left of it.

        Lines of epochs after ``epoch`` are dropped, since they will be written again; -1 begins
        anew, and lets go of all that another run left.
        """
        if not self.writes:
            return
        if epoch < 0:
            self.checkpoints.let_go()
            self.results.unlink(missing_ok=True)  # it would make an interrupted run look finished
            self.answers.unlink(missing_ok=True)
            shutil.rmtree(self.pictures, ignore_errors=True)
        kept = [line for line in read_lines(self.metrics) if line["epoch"] <= epoch]
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        write_text(self.config, config)
        if self.tensorboard:
            self.events = _events(self.folder, kept)

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
        if self.events is not None:
            _add(self.events, to_json(line))

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


def _event_writer() -> Any:
    """Find what writes TensorBoard events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "--tensorboard needs a package: pip install 'adaptune[tensorboard]'"
        ) from error
    return SummaryWriter


def _events(folder: Path, lines: Iterable[Mapping[str, Any]]) -> Any:
    """Write TensorBoard events anew, from lines of the metrics on, so that no step is there twice.

    Whoever watches is told by ``purge_step`` to forget what was read from the file before.
    """
    for file in folder.glob("events.out.tfevents.*"):
        file.unlink(missing_ok=True)
    writer = _event_writer()(str(folder), purge_step=0)
    for line in lines:
        _add(writer, line)
    return writer


def _add(writer: Any, line: Mapping[str, Any]) -> None:
    for name, value in line.items():
        writer.add_scalar(name, math.nan if value is None else value, line["epoch"])
    writer.flush()
