"""What the JSON file of a saved network may say, format by format, checked value by value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

from adaptune.types import BatchNormPolicy

Check = tuple[Callable[[Any], bool], str]
"""Whether a value is as it should be, and how that is called."""

WORD: Check = (lambda value: isinstance(value, str), "text")
WHOLE: Check = (lambda value: type(value) is int and 0 < value < 10**5, "a whole number above 0")
POSITIVE: Check = (lambda value: _is_number(value) and value > 0, "a number above 0")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _listed(check: Callable[[Any], bool], words: str) -> Check:
    return (lambda value: isinstance(value, list) and bool(value) and all(map(check, value)), words)


def one_of(*words: str) -> Check:
    """Give the check that a value is one of some words."""
    return (lambda value: value in words, f"one of {', '.join(words)}")


KINDS = ("timm", "torchvision", "module")
"""Where an architecture may come from, in formats 1 to 3; later ones came with a kind each."""

LATER_KINDS = {
    4: "transformers",
    5: "timm-features",
    6: "smp",
    7: "text",
    9: "clip",
    10: "tokens",
}
ANY = (*KINDS, *LATER_KINDS.values())

DESCRIPTION: dict[str, Any] = {
    "format": WHOLE,
    "origin": {"kind": one_of(*KINDS), "name": WORD, "head": WORD},
    "classes": _listed(WORD[0], "a list of names"),
    "preprocess": {
        "size": WHOLE,
        "mean": _listed(_is_number, "a list of numbers"),
        "std": _listed(POSITIVE[0], "a list of numbers above 0"),
        "interpolation": one_of("bilinear", "bicubic"),
        "crop": POSITIVE,
    },
    "batchnorm": one_of(*get_args(BatchNormPolicy)),
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
    "pooling": one_of("mean", "cls", "own"),
    "settings": (lambda value: isinstance(value, dict), "settings by name"),
}

TEXT: dict[str, Any] = {
    "length": WHOLE,
    "tokenizer": one_of("", "tokenizer.json"),
    "vocabulary": (lambda value: type(value) is int and value > 1, "a whole number above 1"),
    "pad": (lambda value: type(value) is int and value >= 0, "a whole number"),
}

PAIRED = 8
"""The format of networks whose head is a space that texts are in too, or classes made of words."""

IMAGES: dict[str, Any] = DESCRIPTION["preprocess"]

LOOK: Check = (
    lambda value: not misfit(value, TEXT if _has(value, "vocabulary") else IMAGES, ""),
    "what images or texts are made into",
)

MOST_IDS = 10**8
"""Tokens of all texts that classes may be made of."""

JOINT: Check = (
    lambda value: (
        isinstance(value, dict)
        and value.keys() == {"body", "joint"}
        and isinstance(value["body"], dict)
        and _is_joint(value["joint"])
    ),
    "a body and a space",
)

LATER: dict[int, dict[str, Any]] = {
    2: {"surgery": SURGERY},
    3: {"surgery": SURGERY, "threshold": SHARE},
    4: {"surgery": SURGERY, "threshold": SHARE, "config": CONFIG},
    5: {"surgery": SURGERY, "threshold": SHARE, "config": STAGES},
    6: {"surgery": SURGERY, "threshold": SHARE},
    7: {"surgery": SURGERY, "threshold": SHARE, "config": ENCODER, "preprocess": TEXT},
    8: {"surgery": SURGERY, "threshold": SHARE, "config": JOINT, "preprocess": LOOK},
    9: {"surgery": SURGERY, "threshold": SHARE, "config": CONFIG},
    10: {
        "surgery": SURGERY,
        "threshold": SHARE,
        "config": ENCODER | {"pooling": one_of("none")},
        "preprocess": TEXT,
    },
}
"""What later formats say beside that: what was changed and how, then which predictions count, then
what builds an architecture of transformers, or which stages of a model are read at every place; the
name of one of segmentation-models-pytorch says it all. Then come networks that read texts, those
that match by texts, bodies of CLIP under another head, and networks that tag every word."""


def _has(value: object, key: str) -> bool:
    return isinstance(value, dict) and key in value


def _is_joint(value: object) -> bool:
    """Tell whether a description of a space is one that is safe to build."""
    parts: dict[str, Any] = {"outputs": WHOLE}
    if _has(value, "tower"):
        parts |= {"tower": (lambda one: not misfit(one, ENCODER, ""), "an encoder"), "texts": TEXT}
    if _has(value, "words"):
        parts |= {"words": _listed(_is_texts, "texts of each class"), "ids": SHAPE}
        parts |= {"average": one_of("embeddings", "similarities")}
    return not misfit(value, parts, "")


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


SHAPE: Check = (
    lambda value: (
        isinstance(value, list)
        and len(value) == 2
        and all(WHOLE[0](one) for one in value)
        and value[0] * value[1] <= MOST_IDS
    ),
    "how many texts of how many tokens",
)


def _is_operation(value: object) -> bool:
    return not misfit(
        value, {"name": WORD, "arguments": (lambda one: isinstance(one, dict), "by name")}, ""
    )


def misfit(said: object, parts: dict[str, Any], where: str) -> str:
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
            inside = misfit(value, part, f"{where}{key}.")
            if inside:
                return inside
        elif not part[0](value):
            return f"{where}{key} should be {part[1]}"
    return ""
