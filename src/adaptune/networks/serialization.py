"""Weights and descriptions on disk, read without trusting them."""

from __future__ import annotations

import json
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor

from adaptune.types import BatchNormPolicy

CONTAINERS = ("state_dict", "model_state_dict", "model", "network")

PROGRAMS = {"constants.pkl", "archive_format"}
"""What is in the files of `torch.jit.save` and `torch.export.save` alone."""

SWOLLEN = 10
"""How many times its own size a weights file may unpack to; torch packs nothing."""

Check = tuple[Callable[[Any], bool], str]
"""Whether a value is as it should be, and how that is called."""

WORD: Check = (lambda value: isinstance(value, str), "text")
WHOLE: Check = (lambda value: type(value) is int and 0 < value < 10**5, "a whole number above 0")
POSITIVE: Check = (lambda value: _is_number(value) and value > 0, "a number above 0")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _listed(check: Callable[[Any], bool], words: str) -> Check:
    return (lambda value: isinstance(value, list) and bool(value) and all(map(check, value)), words)


def _one_of(*words: str) -> Check:
    return (lambda value: value in words, f"one of {', '.join(words)}")


KINDS = ("timm", "torchvision", "module")
"""Where an architecture may come from, in formats 1 to 3; later ones came with a kind each."""

LATER_KINDS = {4: "transformers", 5: "timm-features", 6: "smp", 7: "text", 8: "tokens"}

DESCRIPTION: dict[str, Any] = {
    "format": WHOLE,
    "origin": {"kind": _one_of(*KINDS), "name": WORD, "head": WORD},
    "classes": _listed(WORD[0], "a list of names"),
    "preprocess": {
        "size": WHOLE,
        "mean": _listed(_is_number, "a list of numbers"),
        "std": _listed(POSITIVE[0], "a list of numbers above 0"),
        "interpolation": _one_of("bilinear", "bicubic"),
        "crop": POSITIVE,
    },
    "batchnorm": _one_of(*get_args(BatchNormPolicy)),
}
"""What a network's JSON file says, in format 1."""

SURGERY: Check = (
    lambda value: isinstance(value, list) and all(map(_is_operation, value)),
    "a list of names and arguments",
)
SHARE: Check = (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0, at most 1")

CONFIG: Check = (
    lambda value: isinstance(value, dict) and isinstance(value.get("model_type"), str),
    "settings with a model_type",
)

STAGES: Check = (
    lambda value: (
        isinstance(value, dict)
        and value.keys() == {"stages"}
        and isinstance(value["stages"], list)
        and 0 < len(value["stages"]) < 100
        and all(type(one) is int and 0 <= one < 1000 for one in value["stages"])
    ),
    "the numbers of stages",
)

ENCODER: dict[str, Any] = {
    "model_type": WORD,
    "pooling": _one_of("mean", "cls"),
    "settings": (lambda value: isinstance(value, dict), "settings by name"),
}

TEXT: dict[str, Any] = {
    "length": WHOLE,
    "tokenizer": _one_of("", "tokenizer.json"),
    "vocabulary": (lambda value: type(value) is int and value > 1, "a whole number above 1"),
    "pad": (lambda value: type(value) is int and value >= 0, "a whole number"),
}

LATER: dict[int, dict[str, Any]] = {
    2: {"surgery": SURGERY},
    3: {"surgery": SURGERY, "threshold": SHARE},
    4: {"surgery": SURGERY, "threshold": SHARE, "config": CONFIG},
    5: {"surgery": SURGERY, "threshold": SHARE, "config": STAGES},
    6: {"surgery": SURGERY, "threshold": SHARE},
    7: {"surgery": SURGERY, "threshold": SHARE, "config": ENCODER, "preprocess": TEXT},
    8: {
        "surgery": SURGERY,
        "threshold": SHARE,
        "config": ENCODER | {"pooling": _one_of("none")},
        "preprocess": TEXT,
    },
}
"""What later formats say beside that: what was changed and how, then which predictions count, then
what builds an architecture of transformers, or which stages of a model are read at every place; the
name of one of segmentation-models-pytorch says it all. Last come networks that read texts, and those
that label every token of one."""


def _is_operation(value: object) -> bool:
    return not _misfit(
        value, {"name": WORD, "arguments": (lambda one: isinstance(one, dict), "by name")}, ""
    )


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
    if version in LATER_KINDS:
        parts |= {"origin": parts["origin"] | {"kind": _one_of(LATER_KINDS[version])}}
    wrong = _misfit(said, parts, "")
    if wrong:
        raise ValueError(
            f"{file} is damaged, or another version wrote it: {wrong}; take the folder from a "
            "copy, or open it with the version that wrote it"
        )
    return {"surgery": [], "threshold": 1.0, "config": {}, **said}


def _misfit(said: object, parts: dict[str, Any], where: str) -> str:
    """Say where a description first differs from what it should be; nothing if it fits."""
    if not isinstance(said, dict):
        return f"{where.rstrip('.') or 'it'} should hold {', '.join(parts)}"
    for key in [*parts, *said]:
        if key not in said:
            return f"{where}{key} is missing"
        if key not in parts:
            return f"{where}{key} is not known"
        part, value = parts[key], said[key]
        if isinstance(part, dict):
            inside = _misfit(value, part, f"{where}{key}.")
            if inside:
                return inside
        elif not part[0](value):
            return f"{where}{key} should be {part[1]}"
    return ""


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
