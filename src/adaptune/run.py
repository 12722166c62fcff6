"""A run is a folder: its settings, metrics, checkpoint, networks and results."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from adaptune.checkpoint import Checkpoints
from adaptune.durable import write_whole
from adaptune.network import Network
from adaptune.ops.processes import barrier, is_first


class Run:
    """The folder of one run.

    ``config.yaml`` reproduces it with ``--config``; ``metrics.jsonl`` has a line an epoch; ``best``
    and ``last`` hold networks, ``checkpoints`` what resuming needs; ``results.json`` and
    ``report.html`` are written at the end. Of several processes the first alone writes.

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
        self.best, self.last = folder / "best", folder / "last"
        self.events = _events(folder) if tensorboard and self.writes else None

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

    def log(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics."""
        if not self.writes:
            return
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(line)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self.events is not None:
            for name, value in line.items():
                self.events.add_scalar(name, value, line["epoch"])
            self.events.flush()

    def forget_after(self, epoch: int) -> None:
        """Drop the lines of epochs after ``epoch``, which a resumed run will write again."""
        if not self.writes:
            return
        kept = [line for line in read_lines(self.metrics) if line["epoch"] <= epoch]
        replace_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

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

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write the results, in one step."""
        if self.writes:
            replace_text(self.results, json.dumps(plain(results), indent=1) + "\n")


def best_network(folder: Path) -> Path:
    """Find the network of a run, or of a folder that is a saved network itself."""
    return folder / "best" if (folder / "best" / "network.json").is_file() else folder


def _events(folder: Path) -> Any:
    """Open a writer of TensorBoard events."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "--tensorboard needs a package: pip install 'adaptune[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a missing file has none, and half a line at the end is none.

    >>> read_lines(Path("no such file"))
    []
    """
    if not file.is_file():
        return []
    *whole, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole if line.strip()]


def replace_text(file: Path, text: str) -> None:
    """Write a text file in one step: whoever reads it sees the old or the new one."""
    write_whole(file, text.encode(errors="backslashreplace"))  # names may be no UTF-8


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold; numbers that are not finite become None.

    >>> plain({"a": (1, Path("b")), "c": float("nan")})
    {'a': [1, 'b'], 'c': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def machine() -> dict[str, Any]:
    """Say what this ran on, so that numbers can be compared: machine and versions."""
    from importlib.metadata import version

    packages = ("adaptune", "torch", "torchvision", "timm", "scikit-learn")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }
