"""A run is a folder: its settings, metrics, checkpoint, networks and results."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class Run:
    """The folder of one run.

    ``config.yaml`` reproduces it with ``--config``; ``metrics.jsonl`` has a line an epoch; ``best``
    and ``last`` hold networks, ``checkpoint`` what resuming needs; ``results.json`` and
    ``report.html`` are written at the end.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.results = folder / "results.json"
        self.best, self.last = folder / "best", folder / "last"
        self.events = _events(folder) if tensorboard else None

    def log(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(plain(line)) + "\n")
        if self.events is not None:
            for name, value in line.items():
                self.events.add_scalar(name, value, line["epoch"])
            self.events.flush()

    def forget_after(self, epoch: int) -> None:
        """Drop the lines of epochs after ``epoch``, which a resumed run will write again."""
        kept = [line for line in read_lines(self.metrics) if line["epoch"] <= epoch]
        replace_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write what resuming needs: tensors as safetensors, the rest as JSON, in one step."""
        tensors: dict[str, Tensor] = {}
        tree = _packed(state, "", tensors)
        file = self.folder / "checkpoint.safetensors"
        beside = file.with_suffix(".new")
        save_file(tensors, beside, metadata={"tree": json.dumps(tree)})
        beside.replace(file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the checkpoint, or None where there is none yet."""
        from safetensors import safe_open

        file = self.folder / "checkpoint.safetensors"
        if not file.is_file():
            return None
        with safe_open(file, framework="pt") as opened:
            tree = json.loads(opened.metadata()["tree"])
        state: dict[str, Any] = _unpacked(tree, load_file(file))
        return state

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write the results, in one step."""
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
    """Read a file of JSON lines; a missing file has none.

    >>> read_lines(Path("no such file"))
    []
    """
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.strip()]


def replace_text(file: Path, text: str) -> None:
    """Write a text file in one step: whoever reads it sees the old or the new one."""
    beside = file.with_name(file.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)


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


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Take the tensors out of a tree, leaving their names; keys keep whether they are numbers."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [
            [key, _packed(one, f"{name}/{key}" if name else str(key), tensors)]
            for key, one in value.items()
        ]
        return {"dict": items}
    if isinstance(value, list | tuple):
        return {"list": [_packed(one, f"{name}/{i}", tensors) for i, one in enumerate(value)]}
    return {"value": value}


def _unpacked(tree: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(one, tensors) for key, one in content}
    if kind == "list":
        return [_unpacked(one, tensors) for one in content]
    return content
