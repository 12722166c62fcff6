"""What a saved network says of itself: written, and what its head and body are built of again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from adaptune.networks.architectures import Architecture, Origin
from adaptune.networks.formats import LATER, LATER_KINDS, PAIRED
from adaptune.networks.heads import Head
from adaptune.networks.inputs import Look, load_look, save_look
from adaptune.networks.joint import Joint, Words
from adaptune.networks.origins import build_again
from adaptune.networks.pairs import describe_joint, joint_again, look_of
from adaptune.types import BatchNormPolicy

PLAIN, CHANGED, REJECTING, FORMAT = 1, 2, 3, max(LATER)
"""A network is written in the first format that can say what it is."""


class Described(Protocol):
    """What of a network is written beside its weights."""

    origin: Origin
    classes: tuple[str, ...]
    preprocess: Look
    batchnorm: BatchNormPolicy
    surgery: list[dict[str, Any]]
    threshold: float
    config: dict[str, Any]

    @property
    def head(self) -> Head:
        """What reads features."""
        ...


def describe(net: Described, folder: Path) -> dict[str, Any]:
    """Say what builds a network again, and write the tokenizers of what it reads to ``folder``."""
    head = net.head
    said: dict[str, Any] = {
        "format": format_of(net),
        "origin": asdict(net.origin),
        "classes": list(net.classes),
        "preprocess": save_look(net.preprocess, folder),
        "batchnorm": net.batchnorm,
    }
    later = {"surgery": net.surgery, "threshold": net.threshold, "config": net.config}
    if isinstance(head, Joint | Words):
        later["config"] = {"body": net.config, "joint": describe_joint(head, folder)}
    known = LATER.get(said["format"], {})
    return said | {key: value for key, value in later.items() if key in known}


def format_of(net: Described) -> int:
    """Give the first format that can say what a network is."""
    if isinstance(net.head, Joint | Words):
        return PAIRED
    for number, kind in LATER_KINDS.items():
        if net.origin.kind == kind:
            return number
    return REJECTING if net.threshold < 1 else CHANGED if net.surgery else PLAIN


def body_again(said: dict[str, Any], folder: Path) -> Architecture:
    """Build the architecture that a description is of, without weights.

    Raises:
        ValueError: As `build_again`.
    """
    kind = look_of(said["preprocess"], said["origin"]["kind"])
    look = load_look(kind, said["preprocess"], folder)
    config = said["config"]["body"] if said["format"] == PAIRED else said["config"]
    return build_again(Origin(**said["origin"]), config, look, classes=len(said["classes"]))


def head_again(said: dict[str, Any], width: int, look: Look, folder: Path) -> Joint | Words | None:
    """Build the head that a description is of, where it is none of the usual."""
    if said["format"] != PAIRED:
        return None
    return joint_again(said["config"]["joint"], width, look, folder)
