"""Weights and descriptions on disk, read without trusting them."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from adaptune.networks.formats import ANY, DESCRIPTION, LATER, LATER_KINDS, misfit, one_of

CONTAINERS = ("state_dict", "model_state_dict", "model", "network")

PROGRAMS = {"constants.pkl", "archive_format"}
"""What is in the files of `torch.jit.save` and `torch.export.save` alone."""

SWOLLEN = 10
"""How many times its own size a weights file may unpack to; torch packs nothing."""


def read_description(file: Path, newest: int) -> dict[str, Any]:
    """Read what a saved network says of itself, checked value by value.

    Raises:
        ValueError: If there is no such file, its format is newer than ``newest``, or anything in
            it is missing, unknown or of the wrong kind.
    """
    if not file.is_file():
        raise ValueError(f"{file.parent} holds no saved network: expected {file.name} in it")
    try:
        said = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} is damaged, it is not JSON: take the folder from a copy, or train again"
        ) from error
    version = said.get("format") if isinstance(said, dict) else None
    if type(version) is int and version > newest:
        raise ValueError(
            f"{file} has format {version}, this adaptune reads up to {newest}: upgrade adaptune"
        )
    parts = DESCRIPTION | (LATER.get(version, {}) if type(version) is int else {})
    if type(version) is int and version > 3:
        kinds = (LATER_KINDS[version],) if version in LATER_KINDS else ANY
        parts |= {"origin": parts["origin"] | {"kind": one_of(*kinds)}}
    wrong = misfit(said, parts, "")
    if wrong:
        raise ValueError(
            f"{file} is damaged, or another version wrote it: {wrong}; take the folder from a "
            "copy, or open it with the version that wrote it"
        )
    return {"surgery": [], "threshold": 1.0, "config": {}, **said}


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file or a torch file; no code in it is ever run.

    Raises:
        ValueError: If there is no such file, or it holds anything but tensors by name.
    """
    content: Any = read_tensors(file) if file.suffix == ".safetensors" else _unpickled(file)
    for key in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor) and _is_plain(value):
            tensors[str(key).removeprefix("module.")] = value
    if not tensors:
        raise ValueError(
            f"{file} holds no tensors by name, so it is no state dict: save one with "
            "torch.save(net.state_dict(), FILE)"
        )
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor holds real numbers one by one, in this machine's memory."""
    dense = value.layout is torch.strided and value.device.type == "cpu"
    return dense and not value.is_quantized and not value.is_complex()


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ValueError: If there is no such file, or it is damaged.
    """
    _look_at(file)
    try:
        return load_file(file)
    except Exception as error:
        raise _damaged(file) from error


def _unpickled(file: Path) -> object:
    """Read a torch file that holds nothing that could run code."""
    _look_at(file)
    _weigh(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):  # what torch calls a name of code that it does not know
            raise _damaged(file) from error
        raise ValueError(
            f"{file} could not be read as weights: it holds objects that could run code, and none "
            "was run; save the state dict alone, with torch.save(net.state_dict(), FILE)"
        ) from error
    except Exception as error:
        raise _damaged(file) from error


def _look_at(file: Path) -> None:
    if not file.is_file():
        raise ValueError(f"no weights file at {file}: give the path of one that is there")
    if not file.stat().st_size:
        raise ValueError(f"{file} could not be read as weights: it is empty; copy it again")


def _weigh(file: Path) -> None:
    """Refuse what would unpack to far more than itself, or is a program, before it is unpacked."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as packed:
            total = sum(entry.file_size for entry in packed.infolist())
            names = {name.rpartition("/")[2] for name in packed.namelist()}
    except Exception as error:  # damaged zips make it raise more than what it documents
        raise _damaged(file) from error
    if total > SWOLLEN * file.stat().st_size:
        raise ValueError(
            f"{file} could not be read as weights: it would unpack to more than {SWOLLEN} times "
            "its size, which torch's own files never do; get it from a source that you trust"
        )
    if names & PROGRAMS:
        raise ValueError(
            f"{file} could not be read as weights: it holds a scripted, traced or exported network "
            "and no state dict; save that of the module it was made from, with "
            "torch.save(net.state_dict(), FILE)"
        )


def _damaged(file: Path) -> ValueError:
    return ValueError(
        f"{file} could not be read as weights, being cut off, damaged or of another kind: expected "
        "a safetensors file, or a torch file that holds tensors only; copy it again"
    )
